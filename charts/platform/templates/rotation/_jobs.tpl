{{/* The Jobs of rotations with their variables from Secrets, as YAML: name to a list of (variable, Secret, key). Takes the root. */}}
{{- define "rotation.jobs" -}}
{{- $secrets := .Values.global.secrets -}}
rotate-fernet-key:
  - [AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, {{ $secrets.metadata }}, connection-direct]
  - [AIRFLOW__CORE__FERNET_KEY, {{ $secrets.fernet }}, fernet-key]
check-database-login:
  - [NEXT_CONNECTION, {{ $secrets.metadata }}, next-connection-direct]
{{- end -}}
