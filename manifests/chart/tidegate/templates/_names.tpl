{{/* What objects are called and labelled. */}}

{{- define "tidegate.instance" -}}
{{- .Values.instance | default .Release.Name -}}
{{- end -}}

{{/* Also the name of the Lease and of the field manager: the program makes it in the same way. */}}
{{- define "tidegate.lease" -}}
{{- $instance := include "tidegate.instance" . -}}
{{- if eq $instance "tidegate" -}}tidegate{{- else -}}tidegate-{{ $instance }}{{- end -}}
{{- end -}}

{{- define "tidegate.name" -}}
{{- .Values.fullnameOverride | default (include "tidegate.lease" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidegate.settings" -}}
{{- if hasPrefix "tidegate-" (include "tidegate.name" .) -}}
tidegate-settings-{{ trimPrefix "tidegate-" (include "tidegate.name" .) }}
{{- else if eq (include "tidegate.name" .) "tidegate" -}}
tidegate-settings
{{- else -}}
{{ include "tidegate.name" . }}-settings
{{- end -}}
{{- end -}}

{{- define "tidegate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "tidegate.name" .) }}
{{- else -}}
{{ required "serviceAccount.name: name the ServiceAccount, or let the chart make one with serviceAccount.create" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ include "tidegate.instance" . }}
{{- end -}}

{{- define "tidegate.podLabels" -}}
{{ include "tidegate.selectorLabels" . }}
app.kubernetes.io/component: ingress-controller
app.kubernetes.io/part-of: tidegate
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.podLabels" . }}
{{ include "tidegate.chartLabels" . }}
{{- end -}}

{{- define "tidegate.chartLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tidegate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Empty for no. */}}
{{- define "tidegate.onNodeNetwork" -}}
{{- if and (eq .Values.kind "DaemonSet") .Values.hostNetwork -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.hasBpf" -}}
{{- if and (eq .Values.kind "DaemonSet") .Values.bpf.enabled -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.hasService" -}}
{{- if kindIs "bool" .Values.service.enabled -}}
{{- if .Values.service.enabled -}}true{{- end -}}
{{- else if eq .Values.kind "Deployment" -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.httpPort" -}}
{{- .Values.ports.http | default (ternary 80 8080 (eq .Values.kind "DaemonSet")) -}}
{{- end -}}

{{- define "tidegate.httpsPort" -}}
{{- .Values.ports.https | default (ternary 443 8443 (eq .Values.kind "DaemonSet")) -}}
{{- end -}}
