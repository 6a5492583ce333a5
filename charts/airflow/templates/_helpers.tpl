{{/* The colour of this release: blue or green. Values of the official chart call it too. Takes the root. */}}
{{- define "platform.colour" -}}
{{- if not (has .Release.Name (list "airflow-blue" "airflow-green")) -}}
{{- fail (printf "release %q: charts/airflow is one colour; call the release airflow-blue or airflow-green" .Release.Name) -}}
{{- end -}}
{{- trimPrefix "airflow-" .Release.Name -}}
{{- end -}}

{{/*
Labels of this chart's own objects: the usual ones, and those that the official chart gives to its objects, so that one query
(`release=airflow-blue`) finds all of a release. Takes a dict: root, component (as the official chart calls it).
*/}}
{{- define "platform.colourLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: airflow
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Values.global.airflowVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
tier: airflow
component: {{ .component }}
release: {{ .root.Release.Name }}
{{- end -}}

{{/* The list of DAG bundles for [dag_processor] dag_bundle_config_list, the same for every component and worker. Takes the root. */}}
{{- define "platform.dagBundles" -}}
{{- $bundle := .Values.global.dagBundle -}}
{{- $kwargs := dict "refresh_interval" (int $bundle.refreshInterval) -}}
{{- $classpath := "airflow.dag_processing.bundles.local.LocalDagBundle" -}}
{{- if eq $bundle.kind "git" -}}
{{- $classpath = "airflow.providers.git.bundles.git.GitDagBundle" -}}
{{- $kwargs = merge $kwargs (dict "git_conn_id" "platform_git" "tracking_ref" $bundle.trackingRef) -}}
{{- if $bundle.subdir -}}
{{- $_ := set $kwargs "subdir" $bundle.subdir -}}
{{- end -}}
{{- else if eq $bundle.kind "s3" -}}
{{- $classpath = "airflow.providers.amazon.aws.bundles.s3.S3DagBundle" -}}
{{- $address := trimPrefix "s3://" $bundle.uri | splitn "/" 2 -}}
{{- $host := splitList "@" $address._0 -}}
{{- $kwargs = merge $kwargs (dict "bucket_name" (last $host) "prefix" (printf "%s/%s/" $address._1 $bundle.trackingRef)) -}}
{{- if gt (len $host) 1 -}}
{{- $_ := set $kwargs "aws_conn_id" (first $host) -}}
{{- end -}}
{{- else -}}
{{- $_ := set $kwargs "path" $bundle.path -}}
{{- end -}}
{{- list (dict "name" $bundle.name "classpath" $classpath "kwargs" $kwargs) | toJson -}}
{{- end -}}

{{/*
Where the official chart mounts its own pod template. It must not be in the folder pod_templates, because our folder cannot be
mounted where a file is already mounted. A definition in a parent chart replaces the one of the same name in the official chart:
look at this when the official chart is upgraded.
*/}}
{{- define "airflow_pod_template_file" -}}
{{ .Values.airflowHome }}/official_pod_template
{{- end -}}

{{/*
What the official chart writes beside the name of a pod's account. Its scheduler also says there that Kubernetes mounts no token, and the
other components have no key for that: this says it for each component whose account has none. The component is the folder of the
template that is rendered.
*/}}
{{- define "serviceLinks" -}}
{{- if ne .Values.enableServiceLinks nil -}}
enableServiceLinks: {{ .Values.enableServiceLinks }}
{{- end }}
{{- $component := .Template.Name | dir | base -}}
{{- $values := get .Values ($component | camelcase | untitle) | default dict -}}
{{- if and (ne $component "scheduler") (not (dig "serviceAccount" "automountServiceAccountToken" true $values)) }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}
