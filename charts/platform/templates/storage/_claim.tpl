{{/* A volume that many pods share. Takes a dict: root, component, name, size. */}}
{{- define "platform.sharedVolume" }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels: {{- include "platform.labels" (dict "root" .root "component" .component) | nindent 4 }}
  annotations:
    # It holds data, so it stays when the release is uninstalled.
    helm.sh/resource-policy: keep
spec: {{- include "platform.claim" (dict "root" .root "size" .size "mode" .root.Values.platform.volumes.sharedAccessMode) | nindent 2 }}
{{- end }}
