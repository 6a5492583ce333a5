{{/* What all containers of a backup share. Takes a dict: root, image; with `sealed`, the container gets the key of backups. */}}
{{- define "platform.backupContainer" -}}
{{- $backup := .root.Values.platform.backup -}}
{{- $secrets := .root.Values.global.secrets -}}
{{- $where := dict "environment" .root.Values.global.environment "namespace" .root.Release.Namespace -}}
{{- $env := list (list "CONNECTION" $secrets.metadataReader "connection-direct") -}}
{{- if .sealed }}{{ $env = append $env (list "BACKUP_KEY" $secrets.backup "backup-key") }}{{ end -}}
image: {{ .image }}
securityContext: {{- include "platform.containerSecurity" .root | nindent 2 }}
resources: {{- toYaml $backup.resources | nindent 2 }}
env:
  - name: AIRFLOW_HOME
    value: /tmp/airflow
  - name: HOME
    value: /tmp
  - name: WORK
    value: /var/backup
  - name: PGSERVICEFILE
    value: /var/backup/pg_service.conf
  - name: AIRFLOW_VERSION
    value: {{ .root.Values.global.airflowVersion | quote }}
  - name: BACKUP
    value: {{ tpl (pick $backup "uri" "storageOptions" "keepDays" "keepAtLeast" | merge $where | toJson) .root | quote }}
  {{- include "platform.secretEnv" $env | nindent 2 }}
volumeMounts:
  - name: scripts
    mountPath: /etc/backup
    readOnly: true
  - name: work
    mountPath: /var/backup
  - name: tmp
    mountPath: /tmp
  {{- if hasPrefix "file://" $backup.uri }}
  - name: backup
    mountPath: {{ trimPrefix "file://" $backup.uri }}
  {{- end }}
{{- end -}}
