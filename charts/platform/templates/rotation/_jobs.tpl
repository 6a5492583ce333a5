{{/* What each Job of a rotation is given of Secrets: its name, then a list of (variable, Secret, key). A YAML map. */}}
{{- define "rotation.jobs" -}}
{{- $secrets := .Values.global.secrets -}}
rotate-fernet-key:
  - [AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, {{ $secrets.metadata }}, connection-direct]
  - [AIRFLOW__CORE__FERNET_KEY, {{ $secrets.fernet }}, fernet-key]
check-database-login:
  - [NEXT_CONNECTION, {{ $secrets.metadata }}, next-connection-direct]
{{- end -}}
