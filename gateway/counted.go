package gateway

import (
	"net/netip"

	"sallyport/audit"
)

// Counts takes refusals that have no record each; [audit.Window] does. It never blocks on the disk.
type Counts interface {
	Count(reason, app string, addr netip.Addr)
}

// counted is the effect, in metrics, of refusals that are counted in the log's windows.
const counted audit.Effect = "counted"

// countInstead counts a refusal of a stranger that comes on top of as many as have a record each, and reports whether it
// did. It is on disk some seconds later, together with others like it, so strangers neither fill the disk nor keep
// anybody's record waiting. Whoever is identified, on this request or on an earlier one of the connection, has records;
// and where no record could be written, nothing is counted away: then the answer is that there is no service.
func (x *exchange) countInstead(reason string) bool {
	if !x.server.countsAway(x) || x.server.accounts.records.Take(x.snap.Limits.StrangersRecords, x.start) == 0 ||
		x.server.decisions.Healthy() != nil {
		return false
	}
	x.recorded = counted
	x.server.count(reason, x.appName(), x.conn.address.Addr())
	return true
}

// unidentified tells whose refusals may be counted.
func (x *exchange) unidentified() bool { return x.session == nil && !x.conn.known.Load() }

// count counts a refusal in the log's next window and, by the same reason, in the metrics.
func (s *Server) count(reason, app string, addr netip.Addr) {
	s.metrics.counted.WithLabelValues(reason).Inc()
	s.window.Count(reason, app, addr.Unmap())
}
