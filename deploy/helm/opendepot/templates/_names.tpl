{{- define "opendepot.app" -}}
{{- .Values.nameOverride | default "opendepot" -}}
{{- end -}}

{{- /* At most 46 characters: the registry's Service for metrics adds 17, and the name of a Service has at most 63. */}}
{{- define "opendepot.fullname" -}}
{{- $app := include "opendepot.app" . -}}
{{- /* The name of a release may have dots, and that of a Service none. */}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $short := $release | trunc (int (sub 45 (len $app))) | trimAll "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- /* The name of a Service begins with a letter. */}}
{{- else if regexMatch "^[0-9]" $release -}}
{{- printf "%s-%s" $app $short -}}
{{- else if contains $app $release -}}
{{- $release | trunc 46 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-%s" $short $app -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.serviceAccount" -}}
{{- default (include "opendepot.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "opendepot.selector" -}}
app.kubernetes.io/name: {{ include "opendepot.app" . | quote }}
app.kubernetes.io/instance: {{ quote .Release.Name }}
{{- end -}}

{{- /* The labels of an object: those that Helm users expect, "own", commonLabels, and "more". */}}
{{- define "opendepot.labelled" -}}
{{- mustMerge (dict) (fromYaml .own) (.more | default dict) (.root.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{- define "opendepot.ofHelm" -}}
app.kubernetes.io/managed-by: {{ quote .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "opendepot.labels" -}}
{{- $own := printf "%s\n%s" (include "opendepot.selector" .) (include "opendepot.ofHelm" .) -}}
{{- include "opendepot.labelled" (dict "root" . "own" $own) -}}
{{- end -}}

{{- /* Labels with further ones: a dict of "root" and "more". */}}
{{- define "opendepot.labelsWith" -}}
{{- $own := printf "%s\n%s" (include "opendepot.selector" .root) (include "opendepot.ofHelm" .root) -}}
{{- include "opendepot.labelled" (dict "root" .root "own" $own "more" .more) -}}
{{- end -}}

{{- define "opendepot.subject" -}}
kind: ServiceAccount
name: {{ include "opendepot.serviceAccount" . | quote }}
namespace: {{ quote .Release.Namespace }}
{{- end -}}

{{- define "opendepot.port" -}}
{{- $args := concat (include "opendepot.listenArgs" (dict "flag" "listen" "port" .Values.metricsPort "usual" 8080) | fromJsonArray) .Values.extraArgs -}}
{{- include "opendepot.portOf" (dict "args" $args "env" .Values.extraEnv "flag" "listen" "default" "[::]:8080" "values" "") -}}
{{- end -}}

{{- /* The flag of a port, as a JSON list: empty for the usual port. */}}
{{- define "opendepot.listenArgs" -}}
{{- ne (int (.port | default .usual)) .usual | ternary (list (printf "--%s=[::]:%d" .flag (int .port))) list | toJson -}}
{{- end -}}

{{- /* The port of an address flag, from any value that sets it. */}}
{{- define "opendepot.portOf" -}}
{{- $listen := .default -}}
{{- $flag := .flag -}}
{{- $variable := printf "OPENDEPOT_%s" (.flag | upper | replace "-" "_") -}}
{{- $path := .values -}}
{{- range .env -}}
{{- if and (eq .name $variable) .valueFrom -}}
{{- fail (printf "%sextraEnv: %s needs a value, because the probes and the Service use its port; write value: \"[::]:9090\"" $path $variable) -}}
{{- end -}}
{{- if and (eq .name $variable) .value -}}{{- $listen = .value -}}{{- end -}}
{{- end -}}
{{- range .args -}}
{{- if hasPrefix (printf "--%s=" $flag) . -}}{{- $listen = trimPrefix (printf "--%s=" $flag) . -}}{{- end -}}
{{- end -}}
{{- if not (regexMatch "^(\\[[0-9A-Fa-f:.]+\\]|[0-9.]+):[1-9][0-9]{0,4}$" $listen) -}}
{{- fail (printf "--%s=%s: write an IP address and a port, such as [::]:9090" $flag $listen) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|\\[::1\\]|\\[::ffff:127\\.)" $listen -}}
{{- fail (printf "--%s=%s: the kubelet and Prometheus can only connect to the pod's own address; write [::]:%s" $flag $listen (regexFind "[0-9]+$" $listen)) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{- /* The operator accepts each of these flags once, and the chart sets it already. */}}
{{- define "opendepot.checkArgs" -}}
{{- $values := .Values -}}
{{- $flags := dict "spool-dir" "spool" -}}
{{- if ne (int $values.metricsPort) 8080 -}}{{- $_ := set $flags "listen" "metricsPort" -}}{{- end -}}
{{- range $flag, $value := dict "max-fetches" "maxFetches" "verify-interval" "verifyInterval" "log-format" "logFormat" "log-level" "logLevel" -}}
{{- if not (has (get $values $value) (list nil "")) -}}{{- $_ := set $flags $flag $value -}}{{- end -}}
{{- end -}}
{{- if or $values.caFile.configMap $values.caFile.secret -}}{{- $_ := set $flags "ca-file" "caFile" -}}{{- end -}}
{{- include "opendepot.repeatedArgs" (dict "args" $values.extraArgs "set" $flags "list" (list "namespace" "allow-storage" "s3-endpoint" "github-host") "values" "") -}}
{{- include "opendepot.checkLease" . -}}
{{- end -}}

{{- /* Only a Lease keeps several replicas from publishing the same versions. The Role for it has the name and the namespace of the release. */}}
{{- define "opendepot.checkLease" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- $message := "replicas: write 1, or remove %s: without a Lease, every replica publishes each version" -}}
{{- range .Values.extraArgs -}}{{- if eq . "--leader-elect=false" -}}{{- fail (printf $message .) -}}{{- end -}}{{- end -}}
{{- range .Values.extraEnv -}}
{{- if and (eq .name "OPENDEPOT_LEADER_ELECT") (eq (toString .value) "false") -}}{{- fail (printf $message .name) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $message := "%s: remove %s: the operator has permission only for the Lease of the release; %s" -}}
{{- range $flag, $instead := dict "lease-name" "the value fullnameOverride names it" "lease-namespace" "it is in the namespace of the release, helm's --namespace" -}}
{{- range $.Values.extraArgs -}}
{{- if eq (splitList "=" . | first) (print "--" $flag) -}}{{- fail (printf $message "extraArgs" . $instead) -}}{{- end -}}
{{- end -}}
{{- range $.Values.extraEnv -}}
{{- if eq .name (printf "OPENDEPOT_%s" ($flag | upper | replace "-" "_")) -}}{{- fail (printf $message "extraEnv" .name $instead) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Rejects a flag that is set twice, unless it is a list. */}}
{{- define "opendepot.repeatedArgs" -}}
{{- $set := .set -}}
{{- $list := append .list "" -}}
{{- $path := .values -}}
{{- range .args -}}
{{- $flag := trimPrefix "--" (regexFind "^--[a-z0-9-]+" .) -}}
{{- if hasKey $set $flag -}}
{{- fail (printf "%sextraArgs: %s repeats a flag that the chart sets; use the value %s" $path . (get $set $flag)) -}}
{{- end -}}
{{- if not (has $flag $list) -}}{{- $_ := set $set $flag (printf "%sextraArgs, once" $path) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A first part with a dot, a colon, or localhost is a host, as for every client of image registries. */}}
{{- define "opendepot.image" -}}
{{- with .Values.image -}}
{{- $repository := .repository -}}
{{- with .registry | default $.Values.global.imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- $host := and (gt (len $parts) 1) (regexMatch "^(localhost|.*[.:].*)$" (first $parts)) -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" (ternary (rest $parts) $parts $host)) -}}
{{- end -}}
{{- empty .digest | ternary (printf "%s:%s" $repository (.tag | default $.Chart.AppVersion)) (printf "%s@%s" $repository .digest) -}}
{{- end -}}
{{- end -}}

{{- /* The ports of hosts and endpoints, as a JSON list of numbers: those of "named", of flags and of environment variables. */}}
{{- define "opendepot.egressPorts" -}}
{{- $named := .named -}}
{{- range .args -}}
{{- if regexMatch "^--(s3-endpoint|github-host)=" . -}}
{{- $named = concat $named (splitList "," (regexReplaceAll "^[^=]+=" . "")) -}}
{{- end -}}
{{- end -}}
{{- range .env -}}
{{- if regexMatch "^(AWS_ENDPOINT_URL.*|AWS_CONTAINER_CREDENTIALS_FULL_URI|OPENDEPOT_S3_ENDPOINT|OPENDEPOT_GITHUB_HOST|(ALL|HTTPS?)_PROXY)$" (upper .name) -}}
{{- $named = concat $named (compact (splitList "," (.value | default ""))) -}}
{{- end -}}
{{- end -}}
{{- $ports := prepend .apiServer 443 -}}
{{- range $named -}}
{{- $plain := hasPrefix "http://" (lower (trim .)) -}}
{{- $host := regexReplaceAll "^[A-Za-z]+://" (trim .) "" | splitList "/" | first | splitList "@" | last -}}
{{- with regexFind ":[0-9]+$" $host -}}
{{- $ports = append $ports (trimPrefix ":" .) -}}
{{- else -}}
{{- $ports = append $ports ($plain | ternary 80 443) -}}
{{- end -}}
{{- end -}}
{{- $ports | toStrings | uniq | toJson -}}
{{- end -}}

{{- /* Egress rules, with the ports of the servers that the process uses. */}}
{{- define "opendepot.egress" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
    # The DNS pods' own port, for platforms that apply the policy after translating the Service's address: OpenShift.
    - port: 5353
      protocol: UDP
    - port: 5353
# The servers that the process uses, AWS STS, the API server's endpoints, and the ports from other values.
- ports:
    {{- range include "opendepot.egressPorts" . | fromJsonArray }}
    - port: {{ . }}
    {{- end }}
# AWS credentials: instance metadata and EKS Pod Identity.
- to:
    {{- range list "169.254.169.254/32" "169.254.170.23/32" "fd00:ec2::254/128" "fd00:ec2::23/128" }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    - port: 80
{{- end -}}

{{- define "opendepot.caVolume" -}}
{{- if .Values.caFile.configMap -}}
name: ca
configMap:
  name: {{ quote .Values.caFile.configMap }}
{{- else if .Values.caFile.secret -}}
name: ca
secret:
  secretName: {{ quote .Values.caFile.secret }}
{{- end -}}
{{- end -}}
