{{/*
The rules of one pod's policy on one side. Takes a dict: root, network (files/network.yaml), pod (its name there), side
(`to` for what it sends, `from` for what it takes).
*/}}
{{- define "network.rules" -}}
{{- range $path := .network.paths }}
{{- $others := list }}
{{- if and (eq $.side "to") (has $.pod $path.from) }}
{{- $others = list $path.to }}
{{- else if and (eq $.side "from") (eq $.pod $path.to) }}
{{- $others = $path.from }}
{{- end }}
{{- range $other := $others }}
{{- include "network.rule" (dict "root" $.root "network" $.network "side" $.side "other" $other "ports" $path.ports) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One other side: a pod, a namespace or addresses; addresses outside may have ports of their own. */}}
{{- define "network.rule" -}}
{{- $settings := .root.Values.platform.networkPolicy }}
{{- if hasKey .network.pods .other }}
- {{ .side }}:
    - podSelector:
        matchLabels: {{- get .network.pods .other | toYaml | nindent 10 }}
  {{- include "network.ports" .ports | nindent 2 }}
{{- else if hasSuffix "Namespace" .other }}
{{- with get $settings .other }}
- {{ $.side }}:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ . }}
  {{- include "network.ports" $.ports | nindent 2 }}
{{- end }}
{{- else }}
{{- if not (hasKey $settings .other) }}
{{- fail (printf "files/network.yaml names %s, which is neither one of its pods nor a key of platform.networkPolicy" .other) }}
{{- end }}
{{- range get $settings .other }}
- {{ $.side }}:
    - ipBlock: {{- include "network.block" (dict "settings" $settings "other" $.other "address" .) | nindent 8 }}
  {{- with .ports | default $.ports }}
  {{- include "network.ports" . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Everywhere means everywhere but the metadata database, which has a path of its own. */}}
{{- define "network.block" -}}
{{- $except := .address.except | default list }}
{{- if and (eq .other "outside") (hasSuffix "/0" .address.cidr) }}
{{- range .settings.databaseAddresses }}
{{- if eq (contains ":" .cidr) (contains ":" $.address.cidr) }}
{{- $except = append $except .cidr }}
{{- end }}
{{- end }}
{{- end -}}
cidr: {{ .address.cidr }}
{{- with $except }}
except: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "network.ports" -}}
ports:
{{- range . }}
{{- $port := splitList "/" (toString .) }}
  - {protocol: {{ index (append $port "TCP") 1 }}, port: {{ first $port }}}
{{- end }}
{{- end -}}
