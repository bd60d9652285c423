{{- /* The parts of a pod that the operator and the registry have in common. Each takes a dict: "root", and "values", which is the
root's Values or registry. The registry's defaults are the operator's values. */}}

{{- define "opendepot.podMetadata" -}}
labels:
  {{- include "opendepot.labelled" (dict "root" .root "own" .selector "more" .values.podLabels) | nindent 2 }}
{{- with mustMerge (dict) (.annotations | default dict) (.values.podAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "opendepot.podFields" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $selector := .selector -}}
{{- $shared := $root.Values -}}
{{- with include "opendepot.pullSecrets" $root | fromJsonArray }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- with $values.runtimeClassName | default $shared.runtimeClassName }}
runtimeClassName: {{ quote . }}
{{- end }}
{{- with $values.hostAliases | default $shared.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.dnsPolicy | default $shared.dnsPolicy }}
dnsPolicy: {{ quote . }}
{{- end }}
{{- with $values.dnsConfig | default $shared.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "opendepot.podSecurityContext" (dict "root" $root "context" $values.podSecurityContext) | fromYaml }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "slice" $values.topologySpreadConstraints }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (dict) . (dict "labelSelector" (dict "matchLabels" (fromYaml $selector))) | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- else }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    {{- with $.matchLabelKeys }}
    # The pods that a roll-out replaces do not count.
    matchLabelKeys: {{ toJson . }}
    {{- end }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The Secrets of this chart and those that a parent chart shares, which may be plain names. */}}
{{- define "opendepot.pullSecrets" -}}
{{- $secrets := .Values.imagePullSecrets | default list -}}
{{- range .Values.global.imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "map" . | ternary . (dict "name" .)) -}}
{{- end -}}
{{- uniq $secrets | toJson -}}
{{- end -}}

{{- /* OpenShift assigns users and groups itself, and rejects a pod that sets others. */}}
{{- define "opendepot.podSecurityContext" -}}
{{- $context := deepCopy (.context | default dict) -}}
{{- if .root.Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{- range list "runAsUser" "runAsGroup" "fsGroup" -}}
{{- if eq (toString (get $context .)) "65532" -}}{{- $context = omit $context . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- /* Variables, then files with variables. "own" is a list of variables that the chart sets itself. A server-side apply refuses two of
one name. */}}
{{- define "opendepot.environment" -}}
{{- $env := .own | default list -}}
{{- $set := dict -}}
{{- range $env -}}{{- $_ := set $set .name "the chart sets it" -}}{{- end -}}
{{- range $name, $value := dict "HTTPS_PROXY" "httpsProxy" "NO_PROXY" "noProxy" -}}
{{- with get $.root.Values $value -}}
{{- $env = append $env (dict "name" $name "value" .) -}}
{{- $_ := set $set $name (printf "the value %s sets it" $value) -}}
{{- end -}}
{{- end -}}
{{- range .values.extraEnv -}}
{{- if hasKey $set .name -}}
{{- fail (printf "%sextraEnv: remove %s: %s" $.path .name (get $set .name)) -}}
{{- end -}}
{{- $_ := set $set .name "an entry before it has the same name" -}}
{{- end -}}
{{- with concat $env .values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "opendepot.containerFields" -}}
{{- range $probe, $path := dict "livenessProbe" "/livez" "readinessProbe" "/readyz" "startupProbe" "/livez" }}
{{- $times := get $.values $probe }}
{{- if or $times (ne $probe "startupProbe") }}
{{ $probe }}:
  {{- merge (dict "httpGet" (dict "path" $path "port" $.port)) ($times | default dict) | toYaml | nindent 2 }}
{{- end }}
{{- end }}
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "opendepot.spool" -}}
{{- $spool := .values.spool -}}
- name: spool
  {{- if eq ($spool.type | default "emptyDir") "ephemeral" }}
  {{- if $spool.medium }}{{- fail (printf "%sspool.medium: remove it, or set %sspool.type to emptyDir" .path .path) }}{{- end }}
  {{- if not $spool.sizeLimit }}{{- fail (printf "%sspool.sizeLimit: write the size of the volume, such as 20Gi" .path) }}{{- end }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $spool.storageClassName }}
        storageClassName: {{ quote . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $spool.sizeLimit }}
  {{- else }}
  {{- if $spool.storageClassName }}{{- fail (printf "%sspool.storageClassName: remove it, or set %sspool.type to ephemeral" .path .path) }}{{- end }}
  emptyDir:
    {{- with $spool.medium }}
    medium: {{ . }}
    {{- end }}
    sizeLimit: {{ $spool.sizeLimit | default "null" }}
  {{- end }}
{{- end -}}

{{- /* Kubernetes refuses details of a rolling update beside Recreate, also its own defaults of before. A server-side apply removes only
what it has set: the defaults are set here. */}}
{{- define "opendepot.strategy" -}}
{{- $strategy := omit (.strategy | default dict) "rollingUpdate" -}}
{{- if ne (get $strategy "type" | toString) "Recreate" -}}
{{- $rolling := dict "maxSurge" "25%" "maxUnavailable" "25%" -}}
{{- include "opendepot.overlay" (dict "below" $rolling "above" ((.strategy | default dict).rollingUpdate | default dict)) -}}
{{- $_ := set $strategy "rollingUpdate" $rolling -}}
{{- end -}}
strategy:
  {{- toYaml $strategy | nindent 2 }}
{{- end -}}

{{- /* A budget under which a node can be drained. */}}
{{- define "opendepot.budget" -}}
{{- $budget := .values.podDisruptionBudget -}}
{{- $replicas := int .values.replicas -}}
{{- $least := $budget.minAvailable -}}
{{- $most := $budget.maxUnavailable -}}
{{- if not (or (kindIs "invalid" $least) (kindIs "invalid" $most)) -}}
{{- fail (printf "%spodDisruptionBudget: remove minAvailable or maxUnavailable: Kubernetes accepts one of them" .path) -}}
{{- end -}}
{{- if and (kindIs "invalid" $least) (kindIs "invalid" $most) -}}{{- $least = 1 -}}{{- end -}}
{{- if not (kindIs "invalid" $least) -}}
{{- /* Kubernetes rounds a percentage up. */}}
{{- $percent := trimSuffix "%" (toString $least) | int -}}
{{- $pods := kindIs "string" $least | ternary (div (add (mul $percent $replicas) 99) 100) (int $least) | int -}}
{{- if ge $pods $replicas -}}
{{- fail (printf "%spodDisruptionBudget.minAvailable: write at most %d: with %v of %d replicas, no node can be drained" .path (sub $replicas 1) $least $replicas) -}}
{{- end -}}
minAvailable: {{ $least }}
{{- else -}}
{{- if has (toString $most) (list "0" "0%") -}}
{{- fail (printf "%spodDisruptionBudget.maxUnavailable: write at least 1: with %v, no node can be drained" .path $most) -}}
{{- end -}}
maxUnavailable: {{ $most }}
{{- end }}
unhealthyPodEvictionPolicy: AlwaysAllow
{{- end -}}
