{{- /* Every template begins with this. All have the same values, which the first one completes: defaults for what is null, the usual
names, the registry's security contexts over those of the operator, and no null in the maps that remain. */}}
{{- define "opendepot.values" -}}
{{- if not (hasKey .Values "completed") -}}
{{- $defaults := .Files.Get "files/defaults.json" | fromJson -}}
{{- range $path, $default := $defaults -}}
{{- include "opendepot.default" (dict "values" $.Values "path" $path "default" $default) -}}
{{- end -}}
{{- include "opendepot.usualNames" (dict "values" .Values "defaults" $defaults "path" "") -}}
{{- include "opendepot.usualNames" (dict "values" .Values.registry "defaults" $defaults "path" "registry.") -}}
{{- range list "podSecurityContext" "securityContext" -}}
{{- $context := deepCopy (get $.Values .) -}}
{{- include "opendepot.overlay" (dict "below" $context "above" (get $.Values.registry . | default dict)) -}}
{{- $_ := set $.Values.registry . $context -}}
{{- end -}}
{{- /* The parent chart's own values are left as they are. */}}
{{- include "opendepot.withoutNulls" (omit .Values "global") -}}
{{- $_ := set .Values "completed" true -}}
{{- end -}}
{{- end -}}

{{- /* Sets the value at a path, such as image.tag, if it is null. Helm has removed it then, with its default. */}}
{{- define "opendepot.default" -}}
{{- $group := .values -}}
{{- $keys := splitList "." .path -}}
{{- range initial $keys -}}
{{- if kindIs "invalid" (index $group .) -}}{{- $_ := set $group . dict -}}{{- end -}}
{{- $group = index $group . -}}
{{- end -}}
{{- if kindIs "invalid" (index $group (last $keys)) -}}{{- $_ := set $group (last $keys) .default -}}{{- end -}}
{{- end -}}

{{- /* Writes "above" into "below". Null removes a key. */}}
{{- define "opendepot.overlay" -}}
{{- $below := .below -}}
{{- range $key, $value := .above -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $below $key -}}
{{- else if and (kindIs "map" $value) (kindIs "map" (index $below $key)) -}}
{{- include "opendepot.overlay" (dict "below" (index $below $key) "above" $value) -}}
{{- else -}}
{{- $_ := set $below $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "opendepot.withoutNulls" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "invalid" $value -}}{{- $_ := unset $map $key -}}{{- end -}}
{{- if kindIs "map" $value -}}{{- include "opendepot.withoutNulls" $value -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Takes values that have another chart's names under ours. A default is no conflict. */}}
{{- define "opendepot.usualNames" -}}
{{- $values := .values -}}
{{- $defaults := .defaults -}}
{{- $path := .path -}}
{{- $names := dict "replicas" (list "replicaCount") "extraEnv" (list "env") "envFrom" (list "extraEnvFrom") "extraVolumes" (list "volumes") "extraVolumeMounts" (list "volumeMounts") "extraContainers" (list "sidecars") "initContainers" (list "extraInitContainers") "securityContext" (list "containerSecurityContext") "strategy" (list "updateStrategy" "deploymentStrategy") "extraObjects" (list "extraManifests" "extraDeploy") -}}
{{- range $name, $others := $names -}}
{{- $default := index $defaults (print $path $name) -}}
{{- range $other := $others -}}
{{- $given := index $values $other -}}
{{- if not (kindIs "invalid" $given) -}}
{{- if not (has (toJson (index $values $name)) (list (toJson $given) (toJson $default))) -}}
{{- fail (printf "%s%s and %s%s are two names of one value: remove one of them" $path $other $path $name) -}}
{{- end -}}
{{- if and (kindIs "map" $given) (kindIs "map" $default) -}}
{{- $changed := deepCopy $default -}}
{{- include "opendepot.overlay" (dict "below" $changed "above" $given) -}}
{{- $given = $changed -}}
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
