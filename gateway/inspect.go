package gateway

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/gateway/route"
	"sallyport/gateway/shield"
	"sallyport/policy"
)

// inspect has the request looked at where the app wants that, and only if the policy would allow it without findings: of
// those it would not, no body is read and no 100-continue is sent, and they cost no inspection. Either way decide judges
// once, with the findings that there are.
func (x *exchange) inspect() error {
	if x.app.inspector == nil || !x.allowedUninspected() {
		return nil
	}
	x.noteRequestKind()
	if err := x.bodyToInspect(); err != nil {
		return err
	}
	began := time.Now()
	client := shield.Client{Name: x.client(), Stranger: x.session == nil}
	found, err := x.server.shield.Inspect(x.app.inspector, client, x.toInspect)
	if err != nil {
		return x.bodyRefusal(err)
	}
	x.server.inspections.observe(x.app, found, time.Since(began))
	x.findings = &policy.Shield{Score: found.Score, Rules: found.Rules, Body: string(found.Body), Timeout: found.Timeout}
	return nil
}

// allowedUninspected asks the policy in memory. What decide refuses anyway need not be looked at.
func (x *exchange) allowedUninspected() bool {
	if x.req.ContentLength > int64(x.app.MaxBody) {
		return false
	}
	_, verdict, err := x.snap.judge(context.Background(), x.inputFor(x.app, x.path), x.destination)
	return err == nil && verdict.Allow
}

// bodyToInspect reads the body to its end, as it would be before it is forwarded. Streams have none that ends, and go
// through as they come: only their heads are inspected.
func (x *exchange) bodyToInspect() error {
	if x.req.ContentLength == 0 || x.streaming || x.app.inspector.Cap() == 0 {
		return nil
	}
	x.server.streams.add(x) // the end of the session, say, ends the wait
	defer x.server.streams.remove(x)
	return x.awaitBody(func() error {
		if err := x.takeWhole(); err != nil {
			return x.bodyRefusal(err)
		}
		return nil
	})
}

// toInspect is the request as the app would get it, on its own: an inspection may outlive the exchange.
func (x *exchange) toInspect() (*shield.Request, error) {
	q := &shield.Request{Method: x.req.Method, Protocol: x.req.Protocol, Host: x.req.Authority, Path: x.path, Target: x.escapedPath,
		Header: x.req.Header.Clone(), Client: x.conn.ip, Length: x.req.ContentLength, Whole: x.req.ContentLength == 0}
	if x.req.Query != "" {
		q.Target += "?" + x.req.Query
	}
	if x.body == nil {
		return q, nil
	}
	size := min(x.body.Size(), int64(x.app.inspector.Cap()))
	q.Body, q.Whole, q.Length = make([]byte, size), size == x.body.Size(), x.body.Size()
	if _, err := x.body.ReadAt(q.Body, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return q, nil
}

// client is whose inspections have to share: a person's, or an address's where nobody is signed in. Of IPv6, a network
// of /64 is one address: who has one of them has all.
func (x *exchange) client() string {
	if x.session != nil {
		return x.session.Identity.ID()
	}
	address, err := netip.ParseAddr(x.conn.ip)
	if err != nil || address.Is4() {
		return x.conn.ip
	}
	network, _ := address.Prefix(64) // which every IPv6 address has
	return network.String()
}

// inspectorFor compiles an app's rules, or finds an inspector that has been compiled from equal ones.
func (s *Snapshot) inspectorFor(r *route.App, previous *Snapshot) (*shield.Inspector, error) {
	return shield.Compile(r.Shield, append(s.inspectors(), previous.inspectors()...)...)
}

// inspectors are those of all apps, each once.
func (s *Snapshot) inspectors() (list []*shield.Inspector) {
	if s == nil {
		return nil
	}
	for _, app := range s.apps {
		if app.inspector != nil && !slices.Contains(list, app.inspector) {
			list = append(list, app.inspector)
		}
	}
	return list
}

// retireInspectors lets go of those that the successor does not use.
func (s *Snapshot) retireInspectors(successor *Snapshot) {
	kept := successor.inspectors()
	for _, inspector := range s.inspectors() {
		if !slices.Contains(kept, inspector) {
			inspector.Close() // it only forgets; see shield.Inspector
		}
	}
}

// inspections counts what inspection finds and costs.
type inspections struct {
	total   *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newInspections(registry *prometheus.Registry, s *shield.Shield) *inspections {
	i := &inspections{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_inspections_total",
			Help: "Inspected requests by app and result: clean, found (some rule scored), or timeout."}, []string{"app", "result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sallyport_inspection_seconds",
			Help:    "Time that a request waits for its inspection, the wait for its turn included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
	}
	gauge := func(name, help string, value func(shield.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(s.Stats()) })
	}
	count := func(name, help string, value func(shield.Stats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return value(s.Stats()) })
	}
	registry.MustRegister(i.total, i.seconds,
		gauge("sallyport_inspections_running", "Requests that are being inspected.", func(s shield.Stats) float64 { return float64(s.Running) }),
		gauge("sallyport_inspections_abandoned", "Inspections that nobody waits for any more, which still run.", func(s shield.Stats) float64 { return float64(s.Abandoned) }),
		gauge("sallyport_inspections_waiting", "Requests that wait for their turn to be inspected.", func(s shield.Stats) float64 { return float64(s.Waiting) }),
		count("sallyport_inspections_waited_total", "Requests that had to wait for their turn.", func(s shield.Stats) float64 { return float64(s.Waited) }),
		count("sallyport_inspections_failed_total", "Inspections that failed inside the rule engine.", func(s shield.Stats) float64 { return float64(s.Panics) }))
	return i
}

func (i *inspections) observe(app *App, found shield.Findings, elapsed time.Duration) {
	result := "clean"
	switch {
	case found.Timeout:
		result = "timeout"
	case len(found.Rules) > 0:
		result = "found"
	}
	i.total.WithLabelValues(string(app.Name), result).Inc()
	i.seconds.Observe(elapsed.Seconds())
}
