{{/* Volumes that no pod may have mounted yet, as a YAML list of names. The Job mounts them; job.yaml says why. Takes the root. */}}
{{- define "migration.claims" -}}
{{- $p := .Values.platform -}}
{{- $claims := list -}}
{{- range list "objectStore" "logs" -}}
{{- if get (get $p .) "enabled" }}{{ $claims = append $claims (kebabcase .) }}{{ end -}}
{{- end -}}
{{- if and $p.backup.enabled (hasPrefix "file://" $p.backup.uri) }}{{ $claims = append $claims "backup" }}{{ end -}}
{{- toYaml $claims -}}
{{- end -}}

{{/* Class of the auth manager, whose tables are migrated too. Takes the root. */}}
{{- define "migration.authManager" -}}
{{- required "airflow.config.core.auth_manager is not set: the migration makes that auth manager's tables" (.Values.airflow.config | default dict | dig "core" "auth_manager" "") -}}
{{- end -}}

{{/* Airflow variables as YAML, with the templates in them resolved. Takes the root. */}}
{{- define "migration.variables" -}}
{{- tpl (toYaml .Values.platform.variables) . -}}
{{- end -}}

{{/* `true` where a Job upgrades the environment after this release, else `false`. Takes the root. */}}
{{- define "migration.leaveToUpgrade" -}}
{{- ternary "true" "false" (not (empty .Values.platform.operations.revision)) -}}
{{- end -}}

{{/* Logins of the roles beside the owner as JSON: the variable and the Secret of each kind of role. Takes the root. */}}
{{- define "migration.logins" -}}
{{- $secrets := .Values.global.secrets -}}
{{- dict "reader" (dict "variable" "READER_CONNECTION" "secret" $secrets.metadataReader)
  "dag_code" (dict "variable" "DAG_CODE_CONNECTION" "secret" $secrets.metadataDagCode) | toJson -}}
{{- end -}}

{{/* Name of the Job and its ConfigMap: the version for people, and a hash of everything that the Job runs with. Takes the root. */}}
{{- define "migration.name" -}}
{{- $p := .Values.platform -}}
{{- printf "airflow-migrate-%s-%s" (.Values.global.airflowVersion | replace "." "-") (include "platform.hash" (list
  "airflow-platform" (include "platform.image" .) (include "migration.authManager" .)
  (.Files.Get "files/scripts/migrate.sh") (.Files.Get "files/scripts/schema_state.py") (.Files.Get "files/scripts/pools.py")
  (.Files.Get "files/scripts/users.py")
  (.Files.Get "files/scripts/database_rights.py") (include "migration.logins" . | fromJson) $p.database.enabled
  (.Files.Get "files/pools.yaml" | fromYaml) (include "migration.variables" . | fromYaml) $p.users $p.migration
  (include "migration.claims" . | fromYamlArray) .Values.global.secrets .Values.global.secretsRevision (include "migration.leaveToUpgrade" .))) -}}
{{- end -}}
