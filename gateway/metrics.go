package gateway

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
)

// metrics counts what the server does. Labels hold configured names and fixed codes only, never what a client said.
type metrics struct {
	requests     *prometheus.CounterVec
	refusals     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	unparsed     *prometheus.CounterVec
	counted      *prometheus.CounterVec
	limited      *prometheus.CounterVec
	reevaluated  *prometheus.CounterVec
	certificates *prometheus.CounterVec
	lostOutcomes prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_requests_total",
			Help: "Requests by app and effect of their decision record; effect \"counted\" is a stranger's refusal in a window of the log, effect \"unrecorded\" has neither, and effect \"own\" are own endpoints."}, []string{"app", "effect"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_refusals_total",
			Help: "Answers that were not the app's, by reason."}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sallyport_request_seconds",
			Help:    "Time from the request's head to the end of its answer, streams included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"app"}),
		unparsed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_unparsed_connections_total",
			Help: "Connections that closed before a request reached the pipeline, by reason."}, []string{"reason"}),
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_counted_total",
			Help: "Refusals that have no record each but are counted in the log's windows, by reason."}, []string{"reason"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_limited_total",
			Help: "Requests that were refused because of a limit, by limit."}, []string{"limit"}),
		reevaluated: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_reevaluated_total",
			Help: "Re-decisions of long exchanges, by effect."}, []string{"effect"}),
		certificates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_client_certificates_total",
			Help: "Client certificates that were verified, by what came of it: valid, or why it does not count."}, []string{"result"}),
		lostOutcomes: prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_outcomes_lost_total",
			Help: "Outcome events that could not be recorded; their decisions were."}),
	}
	registry.MustRegister(m.requests, m.refusals, m.seconds, m.unparsed, m.counted, m.limited, m.reevaluated, m.certificates, m.lostOutcomes)
	return m
}

// unrecordedEffect is the label of requests that were refused because their decision could not be recorded.
const unrecordedEffect audit.Effect = "unrecorded"

// appMetrics are one app's counters, looked up once.
type appMetrics struct {
	effects map[audit.Effect]prometheus.Counter
	seconds prometheus.Observer
}

func (m *metrics) forApp(name string) *appMetrics {
	a := &appMetrics{effects: map[audit.Effect]prometheus.Counter{}, seconds: m.seconds.WithLabelValues(name)}
	for _, effect := range []audit.Effect{audit.Allow, audit.Deny, audit.Reject, counted, unrecordedEffect} {
		a.effects[effect] = m.requests.WithLabelValues(name, string(effect))
	}
	return a
}

func (m *metrics) observe(x *exchange, elapsed time.Duration) {
	if x.refusal != nil {
		m.refusals.WithLabelValues(x.refusal.Reason).Inc()
	}
	effect := cmp.Or(x.recorded, unrecordedEffect)
	switch {
	case x.isOwn:
		m.requests.WithLabelValues("", "own").Inc()
	case x.app == nil:
		m.requests.WithLabelValues("", string(effect)).Inc()
	default:
		counters := m.forAppCached(x.app)
		counters.effects[effect].Inc()
		counters.seconds.Observe(elapsed.Seconds())
	}
}

func (m *metrics) forAppCached(app *App) *appMetrics {
	app.metricsOnce.Do(func() { app.metrics = m.forApp(string(app.Name)) })
	return app.metrics
}
