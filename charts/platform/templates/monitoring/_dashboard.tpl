{{/*
Moves the line of each panel that shows an alert's threshold to where this environment has it, in place. Takes a dict: dashboard,
alerts (platform.monitoring.alerts). The panel names the alert in the title of a link. A colour begins at its number, so that 0
is written as the least above it.
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
