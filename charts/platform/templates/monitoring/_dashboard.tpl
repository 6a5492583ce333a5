{{/*
Changes a dashboard in place: a line that shows an alert's threshold moves to the threshold of this environment. Takes a dict:
dashboard, alerts (platform.monitoring.alerts). A panel names its alert in the title of a link. Grafana also colours a
value that equals the line, while an alert fires above its threshold only, so a threshold of 0 is written as 0.001.
*/}}
{{- define "platform.dashboard" -}}
{{- range $panel := .dashboard.panels -}}
{{- range $link := $panel.links -}}
{{- $own := get $.alerts (trimPrefix "Alert: " $link.title) | default dict -}}
{{- if and (hasPrefix "Alert: " $link.title) (hasKey $own "threshold") -}}
{{- $_ := set (index $panel.fieldConfig.defaults.thresholds.steps 1) "value" (default 0.001 $own.threshold) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
