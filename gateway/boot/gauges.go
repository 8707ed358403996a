package boot

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
)

// registerGauges adds the metrics that are read off the parts when somebody asks.
func (a *assembly) registerGauges() {
	gauge := func(name, help string, value func() float64) {
		a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("sallyport_config_last_reload_success", "1 when the configuration in effect is the newest that was read, 0 after a refused reload.", func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return truth(a.failure == nil)
	})
	gauge("sallyport_audit_healthy", "1 while the audit log can be written.", func() float64 { return truth(a.audit.Healthy() == nil) })
	gauge("sallyport_keys_ready", "1 while the key process is connected.", func() float64 { return truth(a.keys.Ready() == nil) })
	gauge("sallyport_certificate_expiry_seconds", "Unix time at which the first certificate expires.", func() float64 {
		first := 0.0
		for _, c := range a.current().certificates() {
			if at := float64(c.NotAfter.Unix()); first == 0 || at < first {
				first = at
			}
		}
		return first
	})
	a.metrics.MustRegister(collector{operated{a}})
}

// collector reads the counts of cache, upstreams, spool, logs and policy off the parts when somebody asks.
type collector struct{ operated }

var (
	cacheRequests = prometheus.NewDesc("sallyport_cache_requests_total", "Requests to apps with a cache, by what came of them.", []string{"app", "result"}, nil)
	cacheServed   = prometheus.NewDesc("sallyport_cache_served_bytes_total", "Bytes of bodies that came out of the cache.", []string{"app"}, nil)
	cacheEntries  = prometheus.NewDesc("sallyport_cache_entries", "Stored answers.", []string{"app"}, nil)
	cacheBytes    = prometheus.NewDesc("sallyport_cache_bytes", "Memory that stored answers take.", []string{"app"}, nil)

	upstreamServing  = prometheus.NewDesc("sallyport_upstream_serving", "1 while an address of an app gets requests.", []string{"app", "address", "resolved"}, nil)
	upstreamOpen     = prometheus.NewDesc("sallyport_upstream_open", "Requests under way at an address.", []string{"app", "address", "resolved"}, nil)
	upstreamWaiting  = prometheus.NewDesc("sallyport_upstream_waiting", "Requests that wait for their turn at an address.", []string{"app", "address", "resolved"}, nil)
	upstreamRequests = prometheus.NewDesc("sallyport_upstream_requests_total", "Requests sent to an address.", []string{"app", "address", "resolved"}, nil)
	upstreamFailures = prometheus.NewDesc("sallyport_upstream_failures_total", "Requests to an address that failed.", []string{"app", "address", "resolved"}, nil)
	upstreamRetries  = prometheus.NewDesc("sallyport_upstream_retries_total", "Requests sent to an address after another one had failed.", []string{"app", "address", "resolved"}, nil)
	upstreamLatency  = prometheus.NewDesc("sallyport_upstream_latency_seconds", "Moving average of an address's time to answer, as the balancer sees it.", []string{"app", "address", "resolved"}, nil)

	connectionsOpen = prometheus.NewDesc("sallyport_connections", "Open connections of a door, by who is on them: strangers, or people who are signed in.", []string{"door", "who"}, nil)
	connectionsCut  = prometheus.NewDesc("sallyport_connections_cut_total", "Connections of a door that a limit closed.", []string{"door"}, nil)

	certificateNotAfter = prometheus.NewDesc("sallyport_certificate_not_after_seconds", "Unix time at which a certificate expires, by its file and each host that it is for.", []string{"file", "name"}, nil)

	spoolBodies   = prometheus.NewDesc("sallyport_spool_bodies", "Request bodies and answers that wait.", nil, nil)
	spoolMemory   = prometheus.NewDesc("sallyport_spool_memory_bytes", "Memory that waiting bodies take.", nil, nil)
	spoolDisk     = prometheus.NewDesc("sallyport_spool_disk_bytes", "Disk that waiting bodies take.", nil, nil)
	spoolStalled  = prometheus.NewDesc("sallyport_spool_stalled", "Answers that hold their app because no room is left.", nil, nil)
	spoolFailures = prometheus.NewDesc("sallyport_spool_failures_total", "Files of the spool that could not be made, written or read.", nil, nil)
)

var (
	auditRecords = prometheus.NewDesc("sallyport_audit_log_records", "Durable records of a log since its beginning.", []string{"log"}, nil)
	auditSigned  = prometheus.NewDesc("sallyport_audit_signed_records", "Records that the last signed checkpoint of a log covers.", []string{"log"}, nil)

	sinkLag       = prometheus.NewDesc("sallyport_audit_sink_lag_records", "Records that a sink has not delivered yet.", []string{"sink"}, nil)
	sinkFailing   = prometheus.NewDesc("sallyport_audit_sink_failing", "1 while a sink cannot deliver.", []string{"sink"}, nil)
	sinkDelivered = prometheus.NewDesc("sallyport_audit_sink_delivered_total", "Records that a sink has delivered.", []string{"sink"}, nil)
	sinkDropped   = prometheus.NewDesc("sallyport_audit_sink_dropped_total", "Records that a sink's receiver refused, each by itself.", []string{"sink"}, nil)
)

// Describe says nothing: which series there are follows from the configuration.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads everything once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	if c.cache != nil {
		for app, s := range c.cache.Stats().Apps {
			for result, n := range map[string]int64{"hit": s.Hits, "miss": s.Misses, "stale": s.Stale, "revalidated": s.Revalidated, "bypass": s.Bypassed} {
				count(cacheRequests, float64(n), app, result)
			}
			count(cacheServed, float64(s.BytesServed), app)
			gauge(cacheEntries, float64(s.Entries), app)
			gauge(cacheBytes, float64(s.Bytes), app)
		}
	}
	for _, u := range c.Upstreams() {
		labels := []string{u.App, u.URL, u.Resolved}
		gauge(upstreamServing, truth(u.Serving), labels...)
		gauge(upstreamOpen, float64(u.Open), labels...)
		gauge(upstreamWaiting, float64(u.Waiting), labels...)
		count(upstreamRequests, float64(u.Requests), labels...)
		count(upstreamFailures, float64(u.Failures), labels...)
		count(upstreamRetries, float64(u.Retries), labels...)
		gauge(upstreamLatency, u.Latency, labels...)
	}
	for door, guard := range c.doors {
		open := guard.Stats()
		gauge(connectionsOpen, float64(open.Strangers), door, "strangers")
		gauge(connectionsOpen, float64(open.Known), door, "known")
		count(connectionsCut, float64(open.Cut), door)
	}
	for _, i := range c.current().certificates() {
		for _, name := range i.Titles() {
			gauge(certificateNotAfter, float64(i.NotAfter.Unix()), strings.ToValidUTF8(i.File, "?"), strings.ToValidUTF8(name, "?"))
		}
	}
	c.collectClientAuthorities(gauge)
	held := c.spool.Stats()
	gauge(spoolBodies, float64(held.Bodies))
	gauge(spoolMemory, float64(held.Memory))
	gauge(spoolDisk, float64(held.Disk))
	gauge(spoolStalled, float64(held.Stalled))
	count(spoolFailures, float64(held.Failures))
	c.collectRenewals(gauge)
	c.collectAudit(gauge, count)
	c.collectPolicy(gauge, count)
}

// collectAudit reads how far the logs are, and those who ship them.
func (c collector) collectAudit(gauge, count func(d *prometheus.Desc, value float64, labels ...string)) {
	for _, log := range []*audit.Log{c.audit.Decisions(), c.audit.Control()} {
		_, checkpoint := c.audit.Checkpoint(log.Name())
		gauge(auditRecords, float64(log.Records()), log.Name())
		gauge(auditSigned, float64(checkpoint.Size), log.Name())
	}
	for _, lag := range c.sinks.Lags() {
		gauge(sinkLag, float64(lag.Records), lag.Name)
		gauge(sinkFailing, truth(!lag.Failing.IsZero()), lag.Name)
		count(sinkDelivered, float64(lag.Delivered), lag.Name)
		count(sinkDropped, float64(lag.Dropped), lag.Name)
	}
}

func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
