{{/* The keys of a map as a list in CEL. */}}
{{- define "admission.keys" -}}
{{- keys . | sortAlpha | toJson -}}
{{- end -}}

{{/* Is who asks no service account of this namespace? Takes the root. */}}
{{- define "admission.isFromElsewhere" -}}
!request.userInfo.username.startsWith('system:serviceaccount:{{ .Release.Namespace }}:')
{{- end -}}

{{/* Does a probe or a hook name a host, or have a field that is not in a list? Takes a dict: action, an expression; keys, a map. */}}
{{- define "admission.callsHost" -}}
({{ .action }}.exists(k, !(k in {{ include "admission.keys" .keys }}))
  || ['httpGet', 'tcpSocket'].exists(a, a in {{ .action }} && 'host' in {{ .action }}[a]))
{{- end -}}

{{/* Does a pod have labels by which Services and NetworkPolicies select a component? Takes a dict: object, an expression; root. */}}
{{- define "admission.hasComponentLabels" -}}
(has({{ .object }}.metadata.labels)
  && (('tier' in {{ .object }}.metadata.labels && {{ .object }}.metadata.labels['tier'] == 'airflow'
       && !('component' in {{ .object }}.metadata.labels && {{ .object }}.metadata.labels['component'] == 'worker'))
      || ('app.kubernetes.io/instance' in {{ .object }}.metadata.labels
          && {{ .object }}.metadata.labels['app.kubernetes.io/instance'] == {{ .root.Release.Name | squote }})
      || ('app.kubernetes.io/part-of' in {{ .object }}.metadata.labels
          && {{ .object }}.metadata.labels['app.kubernetes.io/part-of'] == 'airflow')))
{{- end -}}
