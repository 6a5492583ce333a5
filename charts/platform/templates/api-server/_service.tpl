{{/* A Service of one colour's API server. Takes a dict: root, name, colour. */}}
{{- define "platform.apiService" }}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels: {{- include "platform.labels" (dict "root" .root "component" "api-server") | nindent 4 }}
spec:
  selector:
    tier: airflow
    component: api-server
    release: airflow-{{ .colour }}
  ports:
    - name: api-server
      port: 8080
      targetPort: 8080
{{- end }}
