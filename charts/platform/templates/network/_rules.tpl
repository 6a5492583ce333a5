{{/*
The rules of one pod's policy for one direction. Takes a dict: root, network (the content of files/network.yaml), pod (its name
there), side (`to` for connections that it opens, `from` for those that it accepts).
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

{{/*
The rule for one other end: a pod, a namespace, or addresses, which may name ports of their own. Takes a dict: root, network, side,
other (the name of the other end), ports.
*/}}
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

{{/*
A block of addresses. `outside` with every address leaves out the metadata database, which only the pods of its own path may reach,
and the cluster itself: paths within it are named one by one.
Takes a dict: settings (platform.networkPolicy), other, address.
*/}}
{{- define "network.block" -}}
{{- $except := .address.except | default list }}
{{- if and (eq .other "outside") (hasSuffix "/0" .address.cidr) }}
{{- range concat .settings.databaseAddresses .settings.clusterAddresses }}
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

{{/* Ports as a policy writes them. Takes a list: a number for TCP, or a text such as 53/UDP. */}}
{{- define "network.ports" -}}
ports:
{{- range . }}
{{- $port := splitList "/" (toString .) }}
  - {protocol: {{ index (append $port "TCP") 1 }}, port: {{ first $port }}}
{{- end }}
{{- end -}}
