{{/* The Secrets that scripts/make_secrets.py has to make, as JSON. Takes the root. */}}
{{- define "secrets.wanted" -}}
{{- $names := pick .Values.global.secrets "metadata" "metadataReader" "metadataDagCode" "fernet" "jwt" "api" "backup" "git" "connections" "users" "database" -}}
{{- if not $names.connections }}{{ $_ := unset $names "connections" }}{{ end -}}
{{- dict "namespace" .Release.Namespace "connections" .Values.platform.connections
  "users" (keys .Values.platform.users | sortAlpha) "secrets" $names | toJson -}}
{{- end -}}

{{/* Name of the Job and its ConfigMap, with a hash of everything that the Job runs with. Takes the root. */}}
{{- define "secrets.jobName" -}}
{{- $script := .Files.Get "files/scripts/make_secrets.py" -}}
{{- printf "airflow-secrets-%s" (include "platform.hash" (list (include "secrets.wanted" . | fromJson) $script (include "platform.image" .))) -}}
{{- end -}}
