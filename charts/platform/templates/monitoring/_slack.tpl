{{/* A message to a channel of Slack. Takes a dict: secret, channel. */}}
{{- define "platform.slack" -}}
- apiURL: {name: {{ .secret }}, key: slack-webhook-url}
  channel: {{ .channel | quote }}
  sendResolved: true
  title: '{{ `{{ .GroupLabels.alertname }} in {{ .GroupLabels.namespace }}{{ if eq .Status "resolved" }} is over{{ end }}` }}'
  titleLink: '{{ `{{ .CommonAnnotations.runbook_url }}` }}'
  text: '{{ `{{ range .Alerts }}{{ .Annotations.description }}{{ "\n" }}{{ end }}` }}'
{{- end }}
