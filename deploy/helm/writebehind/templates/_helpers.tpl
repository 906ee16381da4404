{{- define "writebehind.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Names of what there is: short enough for a part's name behind it. */}}
{{- define "writebehind.fullname" -}}
{{- $name := include "writebehind.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "writebehind.selector" -}}
app.kubernetes.io/name: {{ include "writebehind.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "writebehind.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "writebehind.selector" . }}
{{- end }}

{{- define "writebehind.serviceAccount" -}}
{{ .Values.serviceAccount.create | ternary (include "writebehind.fullname" .) "default" | default .Values.serviceAccount.name }}
{{- end }}

{{- define "writebehind.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "writebehind.job" -}}
{{ .Values.monitoring.job | default (printf "writebehind-%s-%s" .Release.Namespace .Release.Name) }}
{{- end }}

{{/* A setting as the environment has it. Numbers of a values file are floats: 1048576 must not become 1.048576e+06. */}}
{{- define "writebehind.scalar" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* Names under which the API, the exporter and Flower are reached. Addresses are ours already, as we listen on all. */}}
{{- define "writebehind.hosts" -}}
{{- $hosts := list -}}
{{- range list "web" "exporter" "flower" -}}
{{- $name := printf "%s-%s" (include "writebehind.fullname" $) . -}}
{{- $hosts = concat $hosts (list $name (printf "%s.%s" $name $.Release.Namespace) (printf "%s.%s.svc" $name $.Release.Namespace)) -}}
{{- end -}}
{{ concat $hosts .Values.web.ingress.hosts (.Values.settings.allowed_hosts | default list) | uniq | join "," }}
{{- end }}

{{/* The secret with the API key that may do everything: the one that you name, or one that the chart makes. */}}
{{- define "writebehind.rootKeySecret" -}}
{{ .Values.secrets.rootKeySecret | default (printf "%s-root-key" (include "writebehind.fullname" .)) }}
{{- end }}

{{/* What every process has in its environment. */}}
{{- define "writebehind.env" -}}
{{- $secret := required "secrets.existingSecret: the name of a secret with REDIS_URL and MONGODB_URL" .Values.secrets.existingSecret -}}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ .Values.secrets.keys.redisUrl | quote }}}}
- name: MONGODB_URL
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ .Values.secrets.keys.mongodbUrl | quote }}}}
- name: BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ .Values.secrets.keys.brokerUrl | quote }}, optional: true}}
- name: WRITEBEHIND_ROOT_KEY
  valueFrom: {secretKeyRef: {name: {{ include "writebehind.rootKeySecret" . | quote }}, key: {{ .Values.secrets.keys.rootKey | quote }}}}
- {name: WRITEBEHIND_CONFIG, value: /srv/config/writebehind.toml}
- {name: WRITEBEHIND_HOST, value: 0.0.0.0}
- {name: WRITEBEHIND_PORT, value: {{ .Values.web.port | toString | quote }}}
- {name: WRITEBEHIND_EXPORTER_PORT, value: {{ .Values.exporter.port | toString | quote }}}
- {name: WRITEBEHIND_METRICS_DIR, value: /run/writebehind}
- name: WRITEBEHIND_ALLOWED_HOSTS
  value: {{ include "writebehind.hosts" . | quote }}
{{- with .Values.settings.cors_origins }}
- name: WRITEBEHIND_CORS_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
{{- range $name, $value := omit .Values.settings "allowed_hosts" "cors_origins" }}
- name: {{ eq $name "mongodb_database" | ternary "MONGODB_DATABASE" (printf "WRITEBEHIND_%s" (upper $name)) }}
  value: {{ include "writebehind.scalar" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "writebehind.mounts" -}}
- {name: config, mountPath: /srv/config, readOnly: true}
{{- if .Values.schemas }}
- {name: schemas, mountPath: /srv/schemas, readOnly: true}
{{- end }}
- {name: run, mountPath: /run/writebehind}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "writebehind.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A shell and two programs: Python would take a second of CPU each time. */}}
{{- define "writebehind.aliveProbe" -}}
exec: {command: [sh, -c, 'test $(( $(date +%s) - $(stat -c %Y /run/writebehind/alive) )) -lt 60']}
timeoutSeconds: 5
{{- end }}

{{/* Probes of a process that no port says anything of. It waits for servers that are away at its start for ten minutes. */}}
{{- define "writebehind.aliveProbes" -}}
startupProbe:
  {{- include "writebehind.aliveProbe" . | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 120
livenessProbe:
  {{- include "writebehind.aliveProbe" . | nindent 2 }}
  periodSeconds: 15
  failureThreshold: 2
readinessProbe:
  {{- include "writebehind.aliveProbe" . | nindent 2 }}
  periodSeconds: 15
{{- end }}

{{/* The probe of a port, by a name that is ours whatever the pod's address. */}}
{{- define "writebehind.http" -}}
httpGet: {path: {{ .path }}, port: {{ .port }}, httpHeaders: [{name: Host, value: localhost}]}
{{- end }}

{{/* A sidecar that shows what the pod's other process has counted; what the installation is asked once is asked elsewhere. */}}
{{- define "writebehind.sidecar" -}}
- name: exporter
  image: {{ include "writebehind.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [writebehind, run, exporter]
  env:
    {{- include "writebehind.env" . | nindent 4 }}
    {{- if not (hasKey .Values.settings "consistency_cpu_percent") }}
    - {name: WRITEBEHIND_CONSISTENCY_CPU_PERCENT, value: "0"}
    {{- end }}
  ports: [{name: metrics, containerPort: {{ .Values.exporter.port }}}]
  livenessProbe:
    {{- include "writebehind.http" (dict "path" "/healthz" "port" "metrics") | nindent 4 }}
    periodSeconds: 20
    timeoutSeconds: 5
  resources: {{- toYaml .Values.exporter.sidecarResources | nindent 4 }}
  securityContext: {{- include "writebehind.containerSecurity" . | nindent 4 }}
  volumeMounts: {{- include "writebehind.mounts" . | nindent 4 }}
{{- end }}

{{/*
A Deployment. Its argument has: root, part, args, resources, probes, and may have replicas (none: a scaler has them), ports,
grace, preStop, env, strategy, mounts, volumes, and metrics: `self` (it shows its counts on its port), `sidecar`, `port`, or none.
*/}}
{{- define "writebehind.deployment" -}}
{{- $root := .root -}}
{{- $sidecar := and (eq (.metrics | default "") "sidecar") $root.Values.exporter.sidecars -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "writebehind.fullname" $root }}-{{ .part }}
  labels:
    {{- include "writebehind.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  {{- with .strategy }}
  strategy: {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "writebehind.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .part }}
  template:
    metadata:
      annotations:
        writebehind/config: {{ printf "%s%s" $root.Values.config (toYaml $root.Values.schemas) | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels:
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "writebehind.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
        {{- if or $sidecar (eq (.metrics | default "") "port") }}
        writebehind/exporter: "true"
        {{- end }}
    spec:
      # Or Kubernetes would set WRITEBEHIND_PORT and the like for each service of this name, and no process would start.
      enableServiceLinks: false
      automountServiceAccountToken: false
      serviceAccountName: {{ include "writebehind.serviceAccount" $root }}
      terminationGracePeriodSeconds: {{ .grace | default 20 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {type: RuntimeDefault}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $root.Values.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- $part := .part }}
        {{- range $root.Values.topologySpread.topologyKeys }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "writebehind.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $part }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .part }}
          image: {{ include "writebehind.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{- toYaml .args | nindent 12 }}
          env:
            {{- include "writebehind.env" $root | nindent 12 }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with .ports }}
          ports: {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- .probes | nindent 10 }}
          {{- with .preStop }}
          lifecycle: {preStop: {exec: {command: [sleep, {{ . | toString | quote }}]}}}
          {{- end }}
          resources: {{- toYaml .resources | nindent 12 }}
          securityContext: {{- include "writebehind.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "writebehind.mounts" $root | nindent 12 }}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- if $sidecar }}
        {{- include "writebehind.sidecar" $root | nindent 8 }}
        {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ include "writebehind.fullname" $root }}}
        {{- if $root.Values.schemas }}
        - name: schemas
          configMap: {name: {{ include "writebehind.fullname" $root }}-schemas}
        {{- end }}
        # Counts of the pod's processes in files that are mapped into memory, 1 MiB each, and a file whose age is a probe.
        - name: run
          emptyDir: {sizeLimit: 64Mi}
        - name: tmp
          emptyDir: {sizeLimit: 256Mi}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{- define "writebehind.webProbes" -}}
{{- $live := include "writebehind.http" (dict "path" "/healthz" "port" "http") -}}
startupProbe:
  {{- $live | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  {{- $live | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  {{- include "writebehind.http" (dict "path" "/readyz" "port" "http") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end }}

{{- define "writebehind.exporterProbes" -}}
{{- $live := include "writebehind.http" (dict "path" "/healthz" "port" "metrics") -}}
startupProbe:
  {{- $live | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  {{- $live | nindent 2 }}
  periodSeconds: 15
  timeoutSeconds: 5
readinessProbe:
  {{- $live | nindent 2 }}
  periodSeconds: 15
  timeoutSeconds: 5
{{- end }}

{{- define "writebehind.flowerProbes" -}}
livenessProbe:
  {{- include "writebehind.http" (dict "path" "/healthcheck" "port" "flower") | nindent 2 }}
  initialDelaySeconds: 10
  periodSeconds: 15
  timeoutSeconds: 5
{{- end }}
