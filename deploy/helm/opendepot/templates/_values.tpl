{{- /* Every template begins with this: gives the values their usual names, and a group that is null its empty form. Null removes the
default of a switch too; what is installed by default is then still installed. */}}
{{- define "opendepot.values" -}}
{{- range list "caFile" "crds" "image" "networkPolicy" "podDisruptionBudget" "prometheusRule" "dashboards" "service" "serviceAccount" "serviceMonitor" "spool" "global" "registry" -}}
{{- if not (get $.Values .) -}}{{- $_ := set $.Values . dict -}}{{- end -}}
{{- end -}}
{{- include "opendepot.usualNames" (dict "values" .Values "path" "") -}}
{{- include "opendepot.switches" (dict "values" .Values) -}}
{{- if not (hasKey .Values.crds "install") -}}{{- $_ := set .Values.crds "install" true -}}{{- end -}}
{{- if not (hasKey .Values.networkPolicy "apiServerPorts") -}}{{- $_ := set .Values.networkPolicy "apiServerPorts" (list 6443) -}}{{- end -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository: write the repository of the image, or remove the null" -}}
{{- end -}}
{{- with .Values.registry -}}
{{- $registry := . -}}
{{- range list "tls" "linkKey" "auth" "serviceAccount" "service" "metricsService" "spool" "ingress" "httpRoute" "podDisruptionBudget" "networkPolicy" -}}
{{- if not (get $registry .) -}}{{- $_ := set $registry . dict -}}{{- end -}}
{{- end -}}
{{- include "opendepot.usualNames" (dict "values" . "path" "registry.") -}}
{{- include "opendepot.switches" (dict "values" .) -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.switches" -}}
{{- range $group, $switch := dict "serviceAccount" "create" "networkPolicy" "enabled" "podDisruptionBudget" "enabled" -}}
{{- $values := get $.values $group -}}
{{- if not (hasKey $values $switch) -}}
{{- $_ := set $values $switch true -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Takes values that have another chart's names under ours. The defaults repeat values.yaml, so that a default is no conflict.
An unset value is null, or empty where Helm has removed it. */}}
{{- define "opendepot.usualNames" -}}
{{- $values := .values -}}
{{- $path := .path -}}
{{- $names := dict "replicas" (list "replicaCount") "extraEnv" (list "env") "envFrom" (list "extraEnvFrom") "extraVolumes" (list "volumes") "extraVolumeMounts" (list "volumeMounts") "extraContainers" (list "sidecars") "initContainers" (list "extraInitContainers") "securityContext" (list "containerSecurityContext") "strategy" (list "updateStrategy" "deploymentStrategy") "extraObjects" (list "extraManifests" "extraDeploy") -}}
{{- $container := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- $defaults := dict "replicas" 2 "securityContext" ($path | empty | ternary $container nil) "strategy" ($path | empty | ternary dict (dict "rollingUpdate" (dict "maxUnavailable" 0 "maxSurge" 1))) -}}
{{- range $name, $others := $names -}}
{{- $default := hasKey $defaults $name | ternary (get $defaults $name) list -}}
{{- range $other := $others -}}
{{- $given := get $values $other -}}
{{- if and (hasKey $values $other) (not (kindIs "invalid" $given)) -}}
{{- $present := get $values $name -}}
{{- if not (has (toJson $present) (list (toJson $given) (toJson $default) "null" "\"\"")) -}}
{{- fail (printf "%s%s and %s%s are two names of one value: remove one of them" $path $other $path $name) -}}
{{- end -}}
{{- if and (kindIs "map" $given) (kindIs "map" $default) -}}
{{- $given = mergeOverwrite (deepCopy $default) $given -}}
{{- end -}}
{{- $_ := set $values $name $given -}}
{{- $_ := unset $values $other -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Not empty if the cluster knows a kind, or it is rendered without asking. */}}
{{- define "opendepot.knows" -}}
{{- if or (eq (toString .root.Values.skipMissingKinds) "false") (.root.Capabilities.APIVersions.Has .kind) -}}true{{- end -}}
{{- end -}}

{{- /* The wanted kinds that the cluster does not know, as a JSON list. */}}
{{- define "opendepot.skipped" -}}
{{- $wanted := list -}}
{{- if .Values.serviceMonitor.enabled -}}{{- $wanted = append $wanted "monitoring.coreos.com/v1/ServiceMonitor" -}}{{- end -}}
{{- if .Values.prometheusRule.enabled -}}{{- $wanted = append $wanted "monitoring.coreos.com/v1/PrometheusRule" -}}{{- end -}}
{{- if and .Values.registry.enabled .Values.registry.httpRoute.enabled -}}{{- $wanted = append $wanted "gateway.networking.k8s.io/v1/HTTPRoute" -}}{{- end -}}
{{- $skipped := list -}}
{{- range $wanted -}}
{{- if not (include "opendepot.knows" (dict "root" $ "kind" .)) -}}{{- $skipped = append $skipped . -}}{{- end -}}
{{- end -}}
{{- toJson $skipped -}}
{{- end -}}
