{{- define "opendepot.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- /* The name of a Service begins with a letter. */}}
{{- else if regexMatch "^[0-9]" .Release.Name -}}
{{- printf "opendepot-%s" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- else if contains "opendepot" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-opendepot" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.serviceAccount" -}}
{{- default (include "opendepot.fullname" .) (.Values.serviceAccount | default dict).name -}}
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
{{- if and (eq .name "OPENDEPOT_LISTEN") .valueFrom -}}
{{- fail "extraEnv: OPENDEPOT_LISTEN needs a value, because the probes and the Service use its port; write value: \"[::]:9090\"" -}}
{{- end -}}
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

{{- /* The operator accepts each of these flags once, and the chart sets it already. */}}
{{- define "opendepot.checkArgs" -}}
{{- $values := .Values -}}
{{- $flags := dict "spool-dir" "spool" -}}
{{- if ne (include "opendepot.fullname" .) "opendepot" -}}{{- $_ := set $flags "lease-name" "fullnameOverride" -}}{{- end -}}
{{- range $flag, $value := dict "max-fetches" "maxFetches" "verify-interval" "verifyInterval" "log-format" "logFormat" "log-level" "logLevel" -}}
{{- if not (has (get $values $value) (list nil "")) -}}{{- $_ := set $flags $flag $value -}}{{- end -}}
{{- end -}}
{{- if or ($values.caFile | default dict).configMap ($values.caFile | default dict).secret -}}{{- $_ := set $flags "ca-file" "caFile" -}}{{- end -}}
{{- range $values.extraArgs -}}
{{- $flag := trimPrefix "--" (regexFind "^--[a-z0-9-]+" .) -}}
{{- if hasKey $flags $flag -}}
{{- fail (printf "extraArgs: %s repeats a flag that the chart sets; use the value %s" . (get $flags $flag)) -}}
{{- end -}}
{{- $_ := set $flags $flag "extraArgs, once" -}}
{{- if has $flag (list "namespace" "allow-storage" "s3-endpoint" "github-host" "") -}}{{- $_ := unset $flags $flag -}}{{- end -}}
{{- end -}}
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
