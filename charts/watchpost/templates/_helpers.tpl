{{- define "watchpost.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "watchpost.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "watchpost.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "watchpost.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "watchpost.selectorLabels" -}}
app.kubernetes.io/name: {{ include "watchpost.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "watchpost.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "watchpost.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "watchpost.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "watchpost.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "watchpost.image" -}}
{{- $name := printf "%s/%s" .Values.image.registry .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "watchpost.id" -}}
{{- $id := .Values.id -}}
{{- if not $id -}}
{{- $id = ternary (printf "%s-$(POD_NAME)" .Values.region) "$(POD_NAME)" (ne .Values.region "") -}}
{{- end -}}
{{- $id | replace "$(POD_NAME)" "${POD_NAME}" -}}
{{- end -}}

{{/* none, pingGroup or netRaw */}}
{{- define "watchpost.icmp" -}}
{{- $uses := false -}}
{{- range $name, $module := (default dict .Values.config.modules) -}}
{{- if eq (toString (default "" $module.prober)) "icmp" -}}{{- $uses = true -}}{{- end -}}
{{- end -}}
{{- if and .Values.existingConfig.name (ne .Values.icmp.mode "auto") -}}
{{- $uses = true -}}
{{- end -}}
{{- if not $uses -}}none
{{- else if eq .Values.icmp.mode "auto" -}}pingGroup
{{- else -}}{{ .Values.icmp.mode }}
{{- end -}}
{{- end -}}

{{/* Everything that a schema cannot say. Included once, by the StatefulSet. */}}
{{- define "watchpost.refuse" -}}
{{- $v := .Values -}}
{{- $pods := max (int $v.shards) (int $v.replicaCount) -}}
{{- $config := ternary dict $v.config (ne $v.existingConfig.name "") -}}
{{- if and (gt (int $v.shards) 1) (gt (int $v.replicaCount) 1) -}}
{{- fail (printf "\n\nshards=%d and replicaCount=%d: only one of them may be more than 1. Set replicaCount=1 to split the checks over shards, or shards=1 to run all of them in every pod." (int $v.shards) (int $v.replicaCount)) -}}
{{- end -}}
{{- if hasKey $config "watchpost" -}}
{{- fail "\n\nconfig.watchpost is made by the chart, one per pod: remove it, set the values region and id, and put its other keys under the value watchpost." -}}
{{- end -}}
{{- $keeps := list -}}
{{- range list "deadman" "heartbeats" "receivers" -}}
{{- if hasKey $config . -}}{{- $keeps = append $keeps . -}}{{- end -}}
{{- end -}}
{{- range (default list $config.probes) -}}
{{- if hasKey . "notify" -}}{{- $keeps = append $keeps (printf "notify of probe %s" .name) -}}{{- end -}}
{{- end -}}
{{- if and $keeps (not $v.book.enabled) -}}
{{- fail (printf "\n\nconfig has %s, which must survive a restart: set book.enabled=true, or move them to a release of their own." (join ", " $keeps)) -}}
{{- end -}}
{{- if and $v.book.enabled (gt $pods 1) -}}
{{- fail (printf "\n\n%d pods cannot share one book: set shards=1 and replicaCount=1 for this release, and run the probes that need more pods in a second release with book.enabled=false and without deadman, heartbeats and receivers." $pods) -}}
{{- end -}}
{{- if and (gt $pods 1) $v.id (not (contains "$(POD_NAME)" $v.id)) -}}
{{- fail (printf "\n\nid=%q would be the id of %d pods: put $(POD_NAME) into it, or leave it empty." $v.id $pods) -}}
{{- end -}}
{{- if and $v.hostNetwork (eq (include "watchpost.icmp" .) "pingGroup") -}}
{{- fail "\n\nhostNetwork=true and icmp.mode=pingGroup: a pod on the host's network may not set net.ipv4.ping_group_range, and Kubernetes would refuse it. Set it on the nodes and icmp.mode=none, or use icmp.mode=netRaw." -}}
{{- end -}}
{{- if and $v.beats.ingress.enabled (not $v.beats.enabled) -}}
{{- fail "\n\nbeats.ingress exposes the beats door, and there is none: set beats.enabled=true." -}}
{{- end -}}
{{- if and $v.beats.ingress.enabled (not $v.beats.ingress.hosts) -}}
{{- fail "\n\nbeats.ingress.hosts is empty: name the host under which others reach /ping and /alertmanager." -}}
{{- end -}}
{{- if and $v.beats.enabled (not $v.book.enabled) -}}
{{- fail "\n\nbeats.enabled=true needs somewhere to write beats down: set book.enabled=true." -}}
{{- end -}}
{{- if and (contains "kubernetes_sd_configs" (toJson $config)) (not $v.rbac.create) -}}
{{- fail "\n\nconfig uses kubernetes_sd_configs, which need leave to list and watch: set rbac.create=true." -}}
{{- end -}}
{{- $mounted := dict -}}
{{- range $v.secrets -}}
{{- if hasKey $mounted .name -}}
{{- fail (printf "\n\nsecrets has two entries named %q: give each a name of its own." .name) -}}
{{- end -}}
{{- $_ := set $mounted .name true -}}
{{- end -}}
{{- range (regexFindAll "/run/secrets/watchpost/[^/\"\\s]+" (toJson (list $config $v.watchpost)) -1) -}}
{{- $name := base . -}}
{{- if not (hasKey $mounted $name) -}}
{{- fail (printf "\n\nconfig names %s, and no entry of secrets mounts it: add {name: %s, secretName: <an existing Secret>} to secrets." . $name) -}}
{{- end -}}
{{- end -}}
{{- $refs := list -}}
{{- range $v.secrets -}}{{- $refs = append $refs .secretName -}}{{- end -}}
{{- if $v.webConfig.secretName -}}{{- $refs = append $refs $v.webConfig.secretName -}}{{- end -}}
{{- if and $v.existingConfig.name (eq $v.existingConfig.kind "Secret") -}}{{- $refs = append $refs $v.existingConfig.name -}}{{- end -}}
{{- /* Only with a cluster at hand: helm template has none, and lookup is then empty for everything. */ -}}
{{- if lookup "v1" "Namespace" "" .Release.Namespace -}}
{{- range $refs -}}
{{- if not (lookup "v1" "Secret" $.Release.Namespace .) -}}
{{- fail (printf "\n\nSecret %q does not exist in namespace %q: create it first (kubectl -n %s create secret generic %s --from-file=…)." . $.Release.Namespace $.Release.Namespace .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
