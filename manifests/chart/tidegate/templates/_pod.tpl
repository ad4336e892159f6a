{{/* The pod, which DaemonSet and Deployment have in common. */}}

{{- define "tidegate.args" -}}
- serve
- --instance={{ include "tidegate.instance" . }}
- --config=/etc/tidegate/settings.yaml
- --config-map=$(POD_NAMESPACE)/{{ include "tidegate.settings" . }}
{{- if and (include "tidegate.onNodeNetwork" .) .Values.adminAddress }}
- --admin={{ .Values.adminAddress }}:{{ .Values.ports.admin }}
{{- else }}
- --admin={{ .Values.ports.admin }}
{{- end }}
- --probe-socket=/run/tidegate/probe.sock
{{- if ne .Values.ingressClass.name "tidegate" }}
- --ingress-class={{ .Values.ingressClass.name }}
{{- end }}
{{- if ne (include "tidegate.httpPort" .) "80" }}
- --http={{ include "tidegate.httpPort" . }}
{{- end }}
{{- if ne (include "tidegate.httpsPort" .) "443" }}
- --https={{ include "tidegate.httpsPort" . }}
{{- end }}
{{- range .Values.bindAddresses }}
- --bind-address={{ . }}
{{- end }}
{{- if not (include "tidegate.hasBpf" .) }}
- --steering=kernel
{{- end }}
{{- with .Values.selector }}
- {{ printf "--selector=%s" . | quote }}
{{- end }}
{{- with .Values.namespaces }}
- --namespaces={{ join "," . }}
{{- end }}
{{- with .Values.publish.nodeAddresses }}
- --publish-node-addresses={{ . }}
{{- end }}
{{- range .Values.publish.addresses }}
- --publish-address={{ . }}
{{- end }}
{{- if .Values.publish.service }}
- --publish-service={{ .Values.publish.service }}
{{- else if and (include "tidegate.hasService" .) (not .Values.publish.addresses) (not .Values.publish.nodeAddresses) }}
- --publish-service=$(POD_NAMESPACE)/{{ include "tidegate.name" . }}
{{- end }}
{{- if .Values.dataKeySecret }}
- --data-key-file=/etc/tidegate-key/key
{{- end }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.probe" -}}
exec:
  command: [tidegate, probe, {{ . }}, --socket=/run/tidegate/probe.sock]
{{- end -}}

{{/* On the node's network no port is declared: the scheduler would give it to one pod, and maxSurge could not place another. */}}
{{- define "tidegate.containerPorts" -}}
{{- if not (include "tidegate.onNodeNetwork" .) }}
ports:
  - name: http
    containerPort: {{ include "tidegate.httpPort" . }}
    {{- if eq .Values.kind "DaemonSet" }}
    hostPort: {{ include "tidegate.httpPort" . }}
    {{- end }}
    protocol: TCP
  - name: https
    containerPort: {{ include "tidegate.httpsPort" . }}
    {{- if eq .Values.kind "DaemonSet" }}
    hostPort: {{ include "tidegate.httpsPort" . }}
    {{- end }}
    protocol: TCP
  - name: admin
    containerPort: {{ .Values.ports.admin }}
    protocol: TCP
{{- end }}
{{- end -}}

{{- define "tidegate.containerSecurity" -}}
{{- if eq .Values.kind "DaemonSet" }}
runAsUser: 0
runAsGroup: 0
{{- end }}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- if eq .Values.kind "DaemonSet" }}
  add:
    - NET_BIND_SERVICE
    {{- if include "tidegate.hasBpf" . }}
    - BPF
    - NET_ADMIN
    {{- end }}
    {{- with .Values.extraCapabilities }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- if eq .Values.kind "DaemonSet" }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- end -}}

{{- define "tidegate.volumes" -}}
- name: settings
  configMap:
    name: {{ include "tidegate.settings" . }}
- name: cache
  {{- if eq .Values.kind "DaemonSet" }}
  hostPath:
    path: {{ .Values.cache.hostPath }}
    type: DirectoryOrCreate
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- if include "tidegate.hasBpf" . }}
- name: bpf
  hostPath:
    path: {{ .Values.bpf.hostPath }}
    type: DirectoryOrCreate
{{- end }}
{{- with .Values.dataKeySecret }}
- name: data-key
  secret:
    secretName: {{ . }}
    defaultMode: 256 # 0400
{{- end }}
{{- end -}}

{{- define "tidegate.container" -}}
name: tidegate
image: {{ include "tidegate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  {{- include "tidegate.args" . | nindent 2 }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- if eq .Values.kind "DaemonSet" }}
  - name: NODE_IP
    valueFrom:
      fieldRef:
        fieldPath: status.hostIP
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- include "tidegate.containerPorts" . }}
startupProbe:
  {{- include "tidegate.probe" "live" | nindent 2 }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  {{- include "tidegate.probe" "live" | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- include "tidegate.probe" "ready" | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 3
{{- if and (eq .Values.kind "Deployment") .Values.preStopSleepSeconds (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ .Values.preStopSleepSeconds }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "tidegate.containerSecurity" . | trim | nindent 2 }}
volumeMounts:
  - name: settings
    mountPath: /etc/tidegate
    readOnly: true
  - name: cache
    mountPath: /var/lib/tidegate
  - name: run
    mountPath: /run/tidegate
  {{- if include "tidegate.hasBpf" . }}
  - name: bpf
    mountPath: /run/tidegate/bpf
  {{- end }}
  {{- if .Values.dataKeySecret }}
  - name: data-key
    mountPath: /etc/tidegate-key
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "tidegate.podMetadata" -}}
labels:
  {{- include "tidegate.podLabels" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.metrics.annotations .Values.podAnnotations }}
annotations:
  {{- if .Values.metrics.annotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ .Values.ports.admin | quote }}
  prometheus.io/path: /metrics
  {{- end }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tidegate.podSpec" -}}
serviceAccountName: {{ include "tidegate.serviceAccount" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq .Values.kind "Deployment" }}
priorityClassName: {{ .Values.priorityClassName | default "system-cluster-critical" }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tidegate.selectorLabels" . | nindent 8 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- else }}
{{- if .Values.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- else }}
dnsPolicy: ClusterFirst
{{- end }}
priorityClassName: {{ .Values.priorityClassName | default "system-node-critical" }}
{{- end }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "slice" .Values.tolerations }}
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
{{- else if eq .Values.kind "DaemonSet" }}
tolerations:
  - operator: Exists
    effect: NoSchedule
  - operator: Exists
    effect: NoExecute
{{- end }}
containers:
  - {{- include "tidegate.container" . | nindent 4 }}
volumes:
  {{- include "tidegate.volumes" . | nindent 2 }}
{{- end -}}
