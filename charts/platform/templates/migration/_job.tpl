{{/* Claims of volumes that may not have another pod yet: object-store, logs, backup. A YAML list. */}}
{{- define "migration.claims" -}}
{{- $p := .Values.platform -}}
{{- $claims := list -}}
{{- range list "objectStore" "logs" -}}
{{- if get (get $p .) "enabled" }}{{ $claims = append $claims (kebabcase .) }}{{ end -}}
{{- end -}}
{{- if and $p.backup.enabled (hasPrefix "file://" $p.backup.uri) }}{{ $claims = append $claims "backup" }}{{ end -}}
{{- toYaml $claims -}}
{{- end -}}

{{- define "migration.authManager" -}}
{{- required "airflow.config.core.auth_manager is not set: the migration makes that auth manager's tables" (.Values.airflow.config | default dict | dig "core" "auth_manager" "") -}}
{{- end -}}

{{- define "migration.variables" -}}
{{- tpl (toYaml .Values.platform.variables) . -}}
{{- end -}}

{{/* Name of the Job and its ConfigMap: a version that people can read, and a hash of everything that the Job runs with. */}}
{{- define "migration.name" -}}
{{- $p := .Values.platform -}}
{{- printf "airflow-migrate-%s-%s" (.Values.global.airflowVersion | replace "." "-") (include "platform.hash" (list
  "airflow-platform" (include "platform.image" .) (include "migration.authManager" .)
  (.Files.Get "files/scripts/migrate.sh") (.Files.Get "files/scripts/pools.py")
  (.Files.Get "files/pools.yaml" | fromYaml) (include "migration.variables" . | fromYaml) $p.users $p.migration
  (include "migration.claims" . | fromYamlArray) .Values.global.secrets .Values.global.secretsRevision)) -}}
{{- end -}}
