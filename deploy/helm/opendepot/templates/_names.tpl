{{- define "opendepot.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "opendepot" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-opendepot" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.serviceAccount" -}}
{{- default (include "opendepot.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "opendepot.selector" -}}
app.kubernetes.io/name: opendepot
app.kubernetes.io/instance: {{ quote .Release.Name }}
{{- end -}}

{{- define "opendepot.labels" -}}
{{ include "opendepot.selector" . }}
app.kubernetes.io/managed-by: {{ quote .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "opendepot.subject" -}}
kind: ServiceAccount
name: {{ include "opendepot.serviceAccount" . | quote }}
namespace: {{ quote .Release.Namespace }}
{{- end -}}

{{- /* The port of --listen, from any value that sets it. */}}
{{- define "opendepot.port" -}}
{{- $listen := "[::]:8080" -}}
{{- range .Values.extraEnv -}}
{{- if and (eq .name "OPENDEPOT_LISTEN") .value -}}{{- $listen = .value -}}{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if hasPrefix "--listen=" . -}}{{- $listen = trimPrefix "--listen=" . -}}{{- end -}}
{{- end -}}
{{- if not (regexMatch "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[1-9][0-9]{0,4}$" $listen) -}}
{{- fail (printf "--listen=%s: write an IP address and a port, such as [::]:9090" $listen) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|\\[::1\\]|\\[::ffff:127\\.)" $listen -}}
{{- fail (printf "--listen=%s: the kubelet and Prometheus can only connect to the pod's own address; write [::]:%s" $listen (regexFind "[0-9]+$" $listen)) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{- /* OpenShift assigns users and groups itself, and rejects a pod that sets others. */}}
{{- define "opendepot.podSecurityContext" -}}
{{- $context := deepCopy (.Values.podSecurityContext | default dict) -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- range list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if eq (toString (get $context .)) "65532" -}}{{- $context = omit $context . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}
