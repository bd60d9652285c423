{{- /* Not empty if the registry is enabled. */}}
{{- define "opendepot.registry.enabled" -}}
{{- include "opendepot.values" . -}}
{{- if .Values.registry.enabled -}}true{{- end -}}
{{- end -}}

{{- define "opendepot.registry.name" -}}
{{- printf "%s-registry" (include "opendepot.fullname" .) -}}
{{- end -}}

{{- define "opendepot.registry.serviceAccount" -}}
{{- default (include "opendepot.registry.name" .) .Values.registry.serviceAccount.name -}}
{{- end -}}

{{- /* Another name than the operator's: no Service, budget or policy of one selects pods of the other. */}}
{{- define "opendepot.registry.selector" -}}
app.kubernetes.io/name: {{ printf "%s-registry" (include "opendepot.app" .) | quote }}
app.kubernetes.io/instance: {{ quote .Release.Name }}
{{- end -}}

{{- define "opendepot.registry.labels" -}}
{{- include "opendepot.registry.labelsWith" (dict "root" .) -}}
{{- end -}}

{{- define "opendepot.registry.labelsWith" -}}
{{- $own := printf "%s\n%s" (include "opendepot.registry.selector" .root) (include "opendepot.ofHelm" .root) -}}
{{- include "opendepot.labelled" (dict "root" .root "own" $own "more" .more) -}}
{{- end -}}

{{- define "opendepot.registry.subject" -}}
kind: ServiceAccount
name: {{ include "opendepot.registry.serviceAccount" . | quote }}
namespace: {{ quote .Release.Namespace }}
{{- end -}}

{{- define "opendepot.registry.port" -}}
{{- $args := concat (include "opendepot.registry.listenArgs" . | fromJsonArray) .Values.registry.extraArgs -}}
{{- include "opendepot.portOf" (dict "args" $args "env" .Values.registry.extraEnv "flag" "listen" "default" "[::]:8443" "values" "registry.") -}}
{{- end -}}

{{- define "opendepot.registry.adminPort" -}}
{{- $args := concat (include "opendepot.registry.listenArgs" . | fromJsonArray) .Values.registry.extraArgs -}}
{{- include "opendepot.portOf" (dict "args" $args "env" .Values.registry.extraEnv "flag" "admin-listen" "default" "[::]:8080" "values" "registry.") -}}
{{- end -}}

{{- define "opendepot.registry.listenArgs" -}}
{{- $clients := include "opendepot.listenArgs" (dict "flag" "listen" "port" .Values.registry.port "usual" 8443) | fromJsonArray -}}
{{- $metrics := include "opendepot.listenArgs" (dict "flag" "admin-listen" "port" .Values.registry.metricsPort "usual" 8080) | fromJsonArray -}}
{{- concat $clients $metrics | toJson -}}
{{- end -}}

{{- /* What the drain and the streams need, unless it is set. */}}
{{- define "opendepot.registry.grace" -}}
{{- .Values.registry.terminationGracePeriodSeconds | default (add (int .Values.registry.drainSeconds) 80) -}}
{{- end -}}

{{- define "opendepot.registry.servicePort" -}}
{{- .Values.registry.service.port | default (empty .Values.registry.tls.plainHttp | ternary 443 80) -}}
{{- end -}}

{{- /* The host of the url for routes, which accept no IP addresses: empty for one, and the route is for all hosts. */}}
{{- define "opendepot.registry.host" -}}
{{- $host := get (urlParse .Values.registry.url) "hostname" -}}
{{- if not (regexMatch "^([0-9]+\\.){3}[0-9]+$|:" $host) -}}{{- $host -}}{{- end -}}
{{- end -}}

{{- define "opendepot.registry.linkKeySecret" -}}
{{- .Values.registry.linkKey.existingSecret | default (printf "%s-link-key" (include "opendepot.registry.name" .)) -}}
{{- end -}}

{{- define "opendepot.registry.authConfigMap" -}}
{{- if .Values.registry.auth.jwt -}}
{{- printf "%s-auth-config" (include "opendepot.registry.name" .) -}}
{{- else -}}
{{- .Values.registry.auth.configMap -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.registry.authConfig" -}}
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  {{- toYaml .Values.registry.auth.jwt | nindent 2 }}
{{- end -}}

{{- define "opendepot.registry.namespaces" -}}
{{- .Values.registry.namespaces | default .Values.namespaces | uniq | toJson -}}
{{- end -}}

{{- define "opendepot.registry.allowStorage" -}}
{{- .Values.registry.allowStorage | default .Values.allowStorage | toJson -}}
{{- end -}}

{{- define "opendepot.registry.s3Endpoints" -}}
{{- .Values.registry.s3Endpoints | default .Values.s3Endpoints | toJson -}}
{{- end -}}

{{- /* What the schema cannot say. Each message names the value to write. */}}
{{- define "opendepot.registry.check" -}}
{{- $registry := .Values.registry -}}
{{- if not $registry.url -}}
{{- fail "registry.url: write the address at which clients reach the registry, such as https://registry.acme.io" -}}
{{- end -}}
{{- if not (include "opendepot.registry.allowStorage" . | fromJsonArray) -}}
{{- fail "registry.allowStorage: write what is served, as NAMESPACE=BUCKET[/PREFIX], such as platform=modules/platform; *=* allows all" -}}
{{- end -}}
{{- if and $registry.tls.secretName $registry.tls.plainHttp -}}
{{- fail "registry.tls: remove secretName, or set plainHttp to false: with plainHttp, the registry has no certificate" -}}
{{- end -}}
{{- if not (or $registry.tls.secretName $registry.tls.plainHttp) -}}
{{- fail "registry.tls.secretName: write the name of a Secret with tls.crt and tls.key; or set registry.tls.plainHttp to true if an ingress or gateway adds TLS" -}}
{{- end -}}
{{- if and $registry.auth.jwt $registry.auth.configMap -}}
{{- fail "registry.auth: remove jwt or configMap: the registry reads one file" -}}
{{- end -}}
{{- with $registry.auth.login -}}
{{- if ne (empty .issuer) (empty .client) -}}
{{- fail "registry.auth.login: write issuer and client, or neither" -}}
{{- end -}}
{{- if and .issuer (not (include "opendepot.registry.authConfigMap" $)) -}}
{{- fail "registry.auth.login.issuer: add this issuer to registry.auth.jwt" -}}
{{- end -}}
{{- end -}}
{{- if and $registry.httpRoute.enabled (not $registry.httpRoute.parentRefs) -}}
{{- fail "registry.httpRoute.parentRefs: write the gateway, such as [{name: gateway, namespace: infra}]" -}}
{{- end -}}
{{- $service := $registry.service -}}
{{- if and (has $service.type (list nil "" "ClusterIP")) (or $service.externalTrafficPolicy $service.loadBalancerClass $service.loadBalancerSourceRanges) -}}
{{- fail "registry.service.type: write LoadBalancer or NodePort, or remove externalTrafficPolicy, loadBalancerClass and loadBalancerSourceRanges" -}}
{{- end -}}
{{- if eq (include "opendepot.registry.serviceAccount" .) (include "opendepot.serviceAccount" .) -}}
{{- fail "registry.serviceAccount.name: write another name than the operator's: the registry must not have its AWS role and its rights" -}}
{{- end -}}
{{- $needed := add (int $registry.drainSeconds) 70 -}}
{{- if lt (int (include "opendepot.registry.grace" .)) (int $needed) -}}
{{- fail (printf "registry.terminationGracePeriodSeconds: write at least %d: drainSeconds, 60 s for streams, and a margin" $needed) -}}
{{- end -}}
{{- if eq (include "opendepot.registry.port" .) (include "opendepot.registry.adminPort" .) -}}
{{- fail (printf "registry.extraArgs: --listen and --admin-listen have the same port %s; write two" (include "opendepot.registry.port" .)) -}}
{{- end -}}
{{- include "opendepot.registry.checkArgs" . -}}
{{- end -}}

{{- /* The flags that the chart sets, with the value of each. */}}
{{- define "opendepot.registry.checkArgs" -}}
{{- $registry := .Values.registry -}}
{{- $set := dict "url" "registry.url" "drain" "registry.drainSeconds" "link-key-file" "registry.linkKey" "spool-dir" "registry.spool" -}}
{{- if ne (int $registry.port) 8443 -}}{{- $_ := set $set "listen" "registry.port" -}}{{- end -}}
{{- if ne (int $registry.metricsPort) 8080 -}}{{- $_ := set $set "admin-listen" "registry.metricsPort" -}}{{- end -}}
{{- range $flag, $value := dict "login-issuer" "issuer" "login-client" "client" "login-scopes" "scopes" -}}
{{- if get ($registry.auth.login | default dict) $value -}}{{- $_ := set $set $flag (print "registry.auth.login." $value) -}}{{- end -}}
{{- end -}}
{{- range $flag, $value := dict "audience" "audience" "anonymous" "anonymous" "tokens-dir" "tokensSecret" -}}
{{- if get $registry.auth $value -}}{{- $_ := set $set $flag (print "registry.auth." $value) -}}{{- end -}}
{{- end -}}
{{- if include "opendepot.registry.authConfigMap" . -}}{{- $_ := set $set "auth-config" "registry.auth.jwt" -}}{{- end -}}
{{- if $registry.tls.secretName -}}
{{- $_ := set $set "tls-cert-file" "registry.tls.secretName" -}}{{- $_ := set $set "tls-key-file" "registry.tls.secretName" -}}
{{- end -}}
{{- if include "opendepot.caVolume" . -}}{{- $_ := set $set "ca-file" "caFile" -}}{{- end -}}
{{- range $flag, $value := dict "download" "download" "max-streams" "maxStreams" -}}
{{- if get $registry $value -}}{{- $_ := set $set $flag (print "registry." $value) -}}{{- end -}}
{{- end -}}
{{- if eq (toString $registry.moduleMetrics) "false" -}}{{- $_ := set $set "module-metrics" "registry.moduleMetrics" -}}{{- end -}}
{{- range $flag, $value := dict "log-format" "logFormat" "log-level" "logLevel" -}}
{{- if or (get $registry $value) (get $.Values $value) -}}{{- $_ := set $set $flag (print "registry." $value) -}}{{- end -}}
{{- end -}}
{{- include "opendepot.repeatedArgs" (dict "args" $registry.extraArgs "set" $set "list" (list "namespace" "namespace-alias" "allow-storage" "s3-endpoint" "public-endpoint" "trusted-proxy") "values" "registry.") -}}
{{- end -}}
