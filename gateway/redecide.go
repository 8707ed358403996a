package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"time"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/policy"
)

// redecide judges an open exchange again: by the newest snapshot, at this time, with what is known of the session
// now. A no ends the exchange; either answer is recorded as reevaluated, naming the first record and carrying only
// what changed in its input.
func (x *exchange) redecide() {
	if x.every.Load() == 0 { // not decided yet: its body arrives, to be inspected
		return
	}
	snap := x.server.snapshot.Load()
	app, path, _, ok := snap.appFor(x.req)
	if !ok || app.Name != x.app.Name {
		x.cancel(ErrPolicyChanged)
		return
	}
	destination, ok := snap.destinationIn(app, x.req)
	if !ok {
		x.cancel(ErrPolicyChanged)
		return
	}
	current, err := x.currentSession()
	if err != nil {
		x.cancel(lookupCause(err))
		return
	}
	now := x.server.now()
	in := new(*x.input)
	in.Subject, in.Resource = x.subjectOf(current, x.certificate(snap, app, now), now), x.resource(app, path)
	in.Context.Client = x.facts(snap).client
	in.Context.SetTime(now, snap.Zone)
	in, verdict, err := snap.judge(context.WithoutCancel(x.ctx), in, destination)
	if err != nil {
		x.cancel(ErrReauthorize)
		return
	}
	if x.recordAgain(snap, in, verdict) != nil {
		x.decided.Store(0) // tried again at the next tick; a log that stays away ends every stream
		return
	}
	x.decidedOn(snap, verdict, now)
	switch {
	case verdict.Allow && x.outlived(snap, app, current, verdict, now):
		x.cancel(ErrStale)
	case verdict.Allow:
	case snap != x.snap:
		x.cancel(ErrPolicyChanged)
	default:
		x.cancel(ErrReauthorize)
	}
}

// decidedOn notes a decision, and when the next one is due: after the interval of the configuration, or sooner where the
// policy obliges us to.
func (x *exchange) decidedOn(snap *Snapshot, verdict *policy.Verdict, now time.Time) {
	every := cmp.Or(snap.Reauthorize, defaultReauthorize)
	if sooner := verdict.ReauthorizeEvery(); sooner > 0 {
		every = min(every, sooner)
	}
	x.every.Store(int64(every))
	x.decided.Store(now.UnixNano())
}

// lookupCause is why an exchange ends whose session was not found.
func lookupCause(err error) error {
	if errors.Is(err, session.ErrNoSession) {
		return ErrSessionRevoked
	}
	if errors.Is(err, ErrPassByProvider) {
		return ErrReauthorize
	}
	return ErrSessionsUnavailable
}

func (x *exchange) recordAgain(snap *Snapshot, in *policy.Input, verdict *policy.Verdict) error {
	effect := audit.Deny
	if verdict.Allow {
		effect = audit.Allow
	}
	detail, err := json.Marshal(struct {
		Of      string          `json:"of"`
		Changed json.RawMessage `json:"changed"`
	}{x.receipt.ID, mergePatch(x.input.AppendJSON(nil), in.AppendJSON(nil))})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	// The exchange may end meanwhile; that it was decided again is recorded all the same.
	receipt, err := x.server.decisions.Append(context.WithoutCancel(x.ctx), &audit.Record{
		Type: audit.TypeReevaluated, RequestID: x.id, Session: x.sessionID(), App: string(x.app.Name), Effect: effect,
		Reason: verdict.Reason, Decision: verdict.JSON, Memo: verdict.Memo, Detail: detail,
		Policy: audit.Policy{Digest: snap.Policy.Digest(), Revision: snap.Policy.Revision()},
	})
	if err == nil {
		x.server.metrics.reevaluated.WithLabelValues(string(effect)).Inc()
		x.server.compare(snap.Policy, in, verdict, receipt)
	}
	return err
}

// mergePatch is the JSON Merge Patch (RFC 7396) that makes after out of before. Inputs hold no nulls, so the patch
// can say everything.
func mergePatch(before, after []byte) json.RawMessage {
	patch, err := json.Marshal(difference(parseObject(before), parseObject(after)))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return patch
}

func difference(before, after map[string]any) map[string]any {
	patch := map[string]any{}
	for name := range before {
		if _, kept := after[name]; !kept {
			patch[name] = nil
		}
	}
	for name, now := range after {
		was, had := before[name]
		if had && reflect.DeepEqual(was, now) {
			continue
		}
		wasObject, _ := was.(map[string]any)
		if nowObject, ok := now.(map[string]any); ok && wasObject != nil {
			patch[name] = difference(wasObject, nowObject)
			continue
		}
		patch[name] = now
	}
	return patch
}

func parseObject(text []byte) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // time_ns has more digits than a float64
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		panic("BUG: an input that is no JSON object: " + err.Error())
	}
	return object
}
