{{/* Spec of a Job that runs a command of airflow-ops. Takes a dict: root, revision (a commit), command (its arguments, as a list). */}}
{{- define "operations.jobSpec" -}}
{{- $root := .root -}}
{{- $o := $root.Values.platform.operations -}}
# Up to ten minutes apart: for a control plane that is away, and for another operation that runs.
backoffLimit: 12
# A migration of a large database is rehearsed first, which takes as long as its restore.
activeDeadlineSeconds: 43200
ttlSecondsAfterFinished: 604800
podFailurePolicy:
  rules:
    # With 1 or 2 the command has found a problem. Another run would find it again, and could repeat an upgrade that was just rolled
    # back. With 3 the same command can succeed later, so 3 is not in the list, and another pod tries.
    - action: FailJob
      onExitCodes:
        containerName: run
        operator: In
        values: [1, 2]
    # A node that is drained: the next pod goes on where this one was cut off.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  metadata:
    labels: {{- include "platform.cronJobLabels" (dict "root" $root "component" "operations") | nindent 6 }}
  spec:
    restartPolicy: Never
    priorityClassName: {{ $root.Values.platform.priorityClassName }}
    # By default a pod stays for five minutes on a node that is lost, and the upgrade stands still.
    tolerations:
      {{- range list "not-ready" "unreachable" }}
      - {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
      {{- end }}
    serviceAccountName: airflow-operations
    automountServiceAccountToken: true
    enableServiceLinks: false
    {{- include "platform.pullSecrets" $root | nindent 4 }}
    securityContext: {{- include "platform.podSecurity" $root | nindent 6 }}
    containers:
      - name: run
        image: {{ $o.image }}
        imagePullPolicy: {{ $root.Values.global.image.pullPolicy }}
        command: [dumb-init, --, bash, /etc/operations/run_operation.sh]
        args: {{- toYaml .command | nindent 10 }}
        env:
          - name: REVISION
            value: {{ .revision | quote }}
          - name: HOME
            value: /tmp
        securityContext: {{- include "platform.containerSecurity" $root | nindent 10 }}
        resources: {{- toYaml $o.resources | nindent 10 }}
        volumeMounts:
          - name: scripts
            mountPath: /etc/operations
            readOnly: true
          - name: tmp
            mountPath: /tmp
    volumes:
      - name: scripts
        configMap:
          name: airflow-operations
      - name: tmp
        emptyDir: {}
{{- end -}}

{{/*
Arguments of airflow-ops that bring Airflow to this release, as a YAML list. What stands in k8s/environments.yaml on main is given,
because the Job's own commit may have another one. Takes the root.
*/}}
{{- define "operations.reconcile" -}}
{{- $arguments := list "reconcile" .Values.global.environment "--active-colour" .Values.global.activeColour -}}
{{- if kindIs "slice" .Values.platform.operations.overlays -}}
{{- $arguments = concat $arguments (list "--overlays" (join "," .Values.platform.operations.overlays)) -}}
{{- end -}}
{{- toYaml $arguments -}}
{{- end -}}
