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
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "opendepot.labels" -}}
{{ include "opendepot.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "opendepot.subject" -}}
kind: ServiceAccount
name: {{ include "opendepot.serviceAccount" . }}
namespace: {{ .Release.Namespace }}
{{- end -}}
