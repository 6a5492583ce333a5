{{/*
Changes one alert in place to what an environment sets for it. Takes a dict: rule, own (its entry in
platform.monitoring.alerts), runbooks. A new threshold replaces the number behind a `<` or `>` of the expression that equals the
annotation `threshold`.
*/}}
{{- define "platform.alert" -}}
{{- $annotations := .rule.annotations -}}
{{- if hasKey .own "threshold" -}}
{{- if not (hasKey $annotations "threshold") -}}
{{- fail (printf "platform.monitoring.alerts.%s.threshold is set, but this alert has no threshold: change its `for` or turn it off" .rule.alert) -}}
{{- end -}}
{{- $old := printf "([<>]) %s(\\s|$)" (regexQuoteMeta $annotations.threshold) -}}
{{- $_ := set .rule "expr" (regexReplaceAll $old .rule.expr (printf "${1} %s${2}" (toString .own.threshold))) -}}
{{- $_ := set $annotations "threshold" (toString .own.threshold) -}}
{{- end -}}
{{- with .own.for -}}
{{- $_ := set $.rule "for" . -}}
{{- end -}}
{{- with .own.severity -}}
{{- $_ := set $.rule.labels "severity" . -}}
{{- end -}}
{{- with .runbooks -}}
{{- $_ := set $annotations "runbook_url" (printf "%s/%s" (trimSuffix "/" .) (base $annotations.runbook_url)) -}}
{{- end -}}
{{- end -}}
