{{/* Labels of every object. Takes a dict: root, component (the name of the template's folder). */}}
{{- define "platform.labels" -}}
{{ include "platform.podLabels" . }}
app.kubernetes.io/version: {{ .root.Values.global.airflowVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/*
Labels of pods: those above that stay the same in every version, because changing one would restart every pod, and because
the pod template of a Job cannot be changed. Takes a dict: root, component.
*/}}
{{- define "platform.podLabels" -}}
{{ include "platform.selector" . }}
app.kubernetes.io/part-of: airflow
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* Labels that select the pods of one component. Selectors cannot be changed after the first install. Takes a dict: root, component. */}}
{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Labels of the Jobs that a CronJob starts. They lack the instance: a deploy gives up when one of its release's Jobs has failed,
and these Jobs are not part of a deploy. Takes a dict: root, component.
*/}}
{{- define "platform.cronJobLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: airflow
{{- end -}}

{{/* Image of Airflow and of every script. Takes the root. */}}
{{- define "platform.image" -}}
{{ .Values.global.image.repository }}:{{ .Values.global.image.tag }}
{{- end -}}

{{/* Secrets with which a node pulls the images, the same as for the official chart's pods. Takes the root. */}}
{{- define "platform.pullSecrets" -}}
{{- with .Values.airflow.imagePullSecrets -}}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* `yes` if airflow.imagePullSecrets names global.secrets.registry, else empty. Takes the root. */}}
{{- define "platform.usesRegistrySecret" -}}
{{- range .Values.airflow.imagePullSecrets -}}
{{- if eq .name $.Values.global.secrets.registry -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Security context of a pod of the Airflow image, the same as of the official chart's pods. Takes the root. */}}
{{- define "platform.podSecurity" -}}
{{- required "airflow.securityContexts.pod is not set: pods must not run as root; values/base.yaml shows how" (dig "securityContexts" "pod" "" .Values.airflow) | toYaml -}}
{{- end -}}

{{/* Security context of every container, the same as of the official chart's. Takes the root. */}}
{{- define "platform.containerSecurity" -}}
{{- required "airflow.securityContexts.containers is not set: containers must not gain rights; values/base.yaml shows how" (dig "securityContexts" "containers" "" .Values.airflow) | toYaml -}}
{{- end -}}

{{/* A Job cannot be changed once it is made, so its name ends in a hash of everything that it runs with. Takes a list of that. */}}
{{- define "platform.hash" -}}
{{ toJson . | sha256sum | trunc 10 }}
{{- end -}}

{{/* Environment variables with the content of Secrets. Takes a list of (variable, Secret, key). */}}
{{- define "platform.secretEnv" -}}
{{- range . }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}
{{- end -}}

{{/* Spec of a volume claim. Takes a dict: root, size, mode (the access mode). */}}
{{- define "platform.claim" -}}
accessModes: [{{ .mode }}]
{{- with .root.Values.platform.volumes.storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}

{{/*
An entry of volumeClaimTemplates. It names what Kubernetes would fill in, because Argo CD would see a difference there for ever.
Takes a dict: root, name, size.
*/}}
{{- define "platform.claimTemplate" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
spec:
  {{- include "platform.claim" (dict "root" .root "size" .size "mode" "ReadWriteOnce") | nindent 2 }}
  volumeMode: Filesystem
{{- end -}}

{{/* Address that the Git mirror fetches from. Takes the root. */}}
{{- define "platform.gitOriginUrl" -}}
{{- if .Values.platform.gitOrigin.enabled -}}
git://airflow-git-origin/dags.git
{{- else -}}
{{ .Values.platform.gitMirror.origin }}
{{- end -}}
{{- end -}}

{{/*
The Service that a StatefulSet names. Kubernetes wants one without an address for it; clients use the component's other Service,
whose address stays the same when a pod is replaced. Takes a dict: root, component, port, number.
*/}}
{{- define "platform.headlessService" -}}
apiVersion: v1
kind: Service
metadata:
  name: airflow-{{ .component }}-headless
  labels: {{- include "platform.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector: {{- include "platform.selector" . | nindent 4 }}
  ports:
    - name: {{ .port }}
      port: {{ .number }}
      targetPort: {{ .number }}
    {{- with .metrics }}
    - name: metrics
      port: {{ . }}
      targetPort: metrics
    {{- end }}
{{- end -}}
