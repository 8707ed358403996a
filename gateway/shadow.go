package gateway

import (
	"sallyport/audit"
	"sallyport/gateway/shadow"
	"sallyport/policy"
)

// Try has every decision from now on compared with what a candidate policy would say. Nil ends that.
func (s *Server) Try(candidate *shadow.Trial) { s.trial.Store(candidate) }

// compare offers a recorded decision to the candidate policy that is tried, if any. Nothing waits for it: this is all that
// a request does for a trial.
func (s *Server) compare(engine *policy.Engine, in *policy.Input, verdict *policy.Verdict, receipt audit.Receipt) {
	if trial := s.trial.Load(); trial != nil {
		trial.Offer(shadow.Observed{Input: in, Verdict: verdict, Policy: engine, Record: receipt.ID})
	}
}
