{{/*
One worker pod of KubernetesExecutor. It runs users' code, so it gets no database password, no Fernet key, no API key and no
service account token: tasks reach Airflow through the execution API only.

Takes a dict: root (the chart's context), size (its name), spec (its entry in dags/config/sizes.yaml).
What else a size needs is in pod_templates/<size>.yaml, a partial Pod: its maps are merged into this one; its volumes, and the
volumeMounts and env of its container `base`, are appended.
*/}}
{{- define "worker.pod" -}}
{{- $path := printf "files/pod_templates/%s.yaml" .size -}}
{{- $own := tpl (.root.Files.Get $path) .root | fromYaml | default dict -}}
{{- if hasKey $own "Error" -}}
{{- fail (printf "pod_templates/%s.yaml is not a YAML map: %s" .size (get $own "Error")) -}}
{{- end -}}
{{- $pod := include "worker.common" . | fromYaml -}}
{{- $base := first $pod.spec.containers -}}
{{- $spec := $own.spec | default dict -}}
{{- $ownBase := $spec.containers | default (list dict) | first -}}
{{- range $key := list "volumeMounts" "env" -}}
{{- $_ := set $base $key (concat (get $base $key) (get $ownBase $key | default list)) -}}
{{- end -}}
{{- $volumes := concat $pod.spec.volumes ($spec.volumes | default list) -}}
{{- $base = mustMergeOverwrite $base (omit $ownBase "volumeMounts" "env") -}}
{{- $pod = mustMergeOverwrite $pod (dict "metadata" ($own.metadata | default dict) "spec" (omit $spec "containers" "volumes")) -}}
{{- $_ := set $pod.spec "containers" (list $base) -}}
{{- $_ := set $pod.spec "volumes" $volumes -}}
{{- toYaml $pod -}}
{{- end -}}

{{/* The pod without what is in pod_templates/<size>.yaml. Takes the same dict. */}}
{{- define "worker.common" -}}
{{- $airflow := .root.Values.airflow -}}
{{- $global := .root.Values.global -}}
apiVersion: v1
kind: Pod
metadata:
  name: placeholder-name
  labels:
    tier: airflow
    component: worker
    release: {{ .root.Release.Name }}
    size: {{ .size }}
    {{- with $airflow.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Autoscalers must not move the pod to another node: that would kill its task. For Cluster Autoscaler and Karpenter.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    karpenter.sh/do-not-disrupt: "true"
spec:
  restartPolicy: Never
  serviceAccountName: {{ .root.Release.Name }}-worker
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $airflow.workers.kubernetes.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $airflow.workers.kubernetes.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- with $airflow.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .spec.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .spec.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .spec.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml $airflow.securityContexts.pod | nindent 4 }}
  containers:
    - name: base
      # KubernetesExecutor replaces it with [kubernetes_executor] worker_container_repository and _tag, which name the same image.
      image: {{ $global.image.repository }}:{{ $global.image.tag }}
      imagePullPolicy: {{ $airflow.images.pod_template.pullPolicy }}
      securityContext: {{- toYaml $airflow.securityContexts.containers | nindent 8 }}
      resources:
        requests: {{- toYaml .spec.requests | nindent 10 }}
        limits: {{- toYaml .spec.limits | nindent 10 }}
      env:
        - name: AIRFLOW_HOME
          value: {{ $airflow.airflowHome }}
        # The root file system is read-only, and libraries write their caches under HOME.
        - name: HOME
          value: /tmp
        {{- range $airflow.env }}
        - name: {{ .name }}
          value: {{ .value | quote }}
        {{- end }}
      envFrom:
        {{- if eq $global.dagBundle.kind "git" }}
        - secretRef:
            name: {{ $global.secrets.git }}
        {{- end }}
        {{- with $global.secrets.connections }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      volumeMounts:
        - name: config
          mountPath: {{ $airflow.airflowHome }}/airflow.cfg
          subPath: airflow.cfg
          readOnly: true
        {{- if $airflow.airflowLocalSettings }}
        - name: config
          mountPath: {{ $airflow.airflowHome }}/config/airflow_local_settings.py
          subPath: airflow_local_settings.py
          readOnly: true
        {{- end }}
        - name: logs
          mountPath: {{ $airflow.airflowHome }}/logs
        - name: tmp
          mountPath: /tmp
        {{- if .root.Values.platform.objectStore.enabled }}
        - name: object-store
          mountPath: {{ $airflow.airflowHome }}/object-store
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ .root.Release.Name }}-config
    - name: logs
      {{- if $airflow.logs.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ $airflow.logs.persistence.existingClaim }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: tmp
      emptyDir: {}
    {{- if .root.Values.platform.objectStore.enabled }}
    - name: object-store
      persistentVolumeClaim:
        claimName: airflow-object-store
    {{- end }}
{{- end -}}
