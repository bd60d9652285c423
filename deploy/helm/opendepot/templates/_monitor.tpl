{{- /* The spec of a ServiceMonitor: a dict of "root", "selector" and "honorLabels". */}}
{{- define "opendepot.monitorSpec" -}}
{{- $monitor := .root.Values.serviceMonitor -}}
selector:
  matchLabels:
    {{- .selector | nindent 4 }}
{{- if ne ($monitor.namespace | default .root.Release.Namespace) .root.Release.Namespace }}
namespaceSelector:
  matchNames: [{{ quote .root.Release.Namespace }}]
{{- end }}
endpoints:
  - port: metrics
    {{- if .honorLabels }}
    # opendepot_registry_module_downloads_total has the namespace of the Module.
    honorLabels: true
    {{- end }}
    {{- with $monitor.interval }}
    interval: {{ . }}
    {{- end }}
    {{- with $monitor.scrapeTimeout }}
    scrapeTimeout: {{ . }}
    {{- end }}
    {{- with $monitor.relabelings }}
    relabelings:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $monitor.metricRelabelings }}
    metricRelabelings:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end -}}

{{- /* The alert rules without those that are disabled, and with further ones. */}}
{{- define "opendepot.alerts" -}}
{{- $rule := .Values.prometheusRule -}}
{{- $groups := list -}}
{{- $names := list -}}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- $kept := list -}}
{{- range .rules -}}
{{- $names = append $names .alert -}}
{{- if not (has .alert $rule.disabled) -}}{{- $kept = append $kept . -}}{{- end -}}
{{- end -}}
{{- if $kept -}}{{- $groups = append $groups (merge (dict "rules" $kept) .) -}}{{- end -}}
{{- end -}}
{{- range $rule.disabled -}}
{{- if not (has . $names) -}}
{{- fail (printf "prometheusRule.disabled: there is no rule %s; the rules are %s" . (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- with $rule.extraRules -}}{{- $groups = append $groups (dict "name" "opendepot-extra" "rules" .) -}}{{- end -}}
{{- toYaml (dict "groups" $groups) -}}
{{- end -}}
