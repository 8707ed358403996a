package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sallyport/audit"
	"sallyport/audit/tree"
)

// maxFollowed bounds how many changes of keys are followed, one pass over the control log each at most.
const maxFollowed = 64

// handover is a record that a name has another key, with a note that both signed.
type handover struct {
	tree.Succession
	seq uint64
}

// handedOver keeps what a record says of changes of keys.
func (l *logCheck) handedOver(e *event) {
	var d struct {
		Detail struct {
			Notes string `json:"notes"`
		} `json:"detail"`
	}
	bad := func(class Class, format string, args ...any) {
		l.add(Finding{Severity: Tampered, Class: class, Seq: e.seq, Text: fmt.Sprintf("record %d of the %s log, about a change of keys, ", e.seq, l.name) + fmt.Sprintf(format, args...)})
	}
	if err := json.Unmarshal(e.raw, &d); err != nil {
		bad(ClassRecord, "cannot be read: %v", err)
		return
	}
	for _, signed := range tree.SplitNotes(d.Detail.Notes) {
		s, err := l.openSuccession(signed)
		if err != nil {
			bad(ClassSignature, "holds a note that is not signed by both keys: %v", err)
			continue
		}
		believed := l.trust != nil && (l.trust.Trusts(s.Old) || l.trust.Trusts(s.New))
		if believed && !l.isOurs(s.Origin) && !l.skip.names {
			bad(ClassOrigin, "is of %q", s.Origin)
			continue
		}
		l.handovers = append(l.handovers, handover{s, e.seq})
	}
}

func (l *logCheck) openSuccession(signed []byte) (tree.Succession, error) {
	if l.skip.openSuccession != nil {
		return l.skip.openSuccession(signed)
	}
	return tree.OpenSuccession(signed)
}

// isOurs tells whether a name is one of this audit directory: of a log, or of what else is signed below its origin. While
// the directory's origin is not known, the first that is signed says what it is.
func (l *logCheck) isOurs(origin string) bool {
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		if base, _, ok := splitOrigin(origin, log); ok {
			return base == l.agreeOn(base)
		}
	}
	base, _, ok := splitOrigin(origin, "manifest")
	return ok && base == l.agreeOn(base)
}

// followKeys reads the control log as often as it takes to know all keys that followed on trusted ones, and returns the
// last reading. A key is believed if the one before is, both signed the note, and a checkpoint that holds covers the
// record that has it; the new key may have signed that checkpoint.
func (r *run) followKeys() (*logCheck, error) {
	refused := map[string]bool{}
	for range maxFollowed {
		early := r.newLog(audit.ControlLog, true)
		if err := early.check(nil); err != nil {
			return nil, err
		}
		if r.believe(early, refused) {
			continue
		}
		uncovered := r.uncovered(early)
		if len(uncovered) == 0 {
			r.followed = early.handovers
			r.tellFollowed()
			r.lookBack(early)
			return early, nil
		}
		for _, key := range uncovered {
			refused[key] = true
		}
		r.trust = r.opts.Trust
	}
	return nil, errors.New("the control log tells of too many changes of keys")
}

// believe trusts the keys that follow on trusted ones and reports whether there were any.
func (r *run) believe(early *logCheck, refused map[string]bool) (more bool) {
	if r.trust == nil {
		return false
	}
	for _, h := range early.handovers {
		if refused[h.New] {
			continue
		}
		var ok bool
		if r.trust, ok = r.trust.Follow(h.Succession); ok {
			more = true
		}
	}
	return more
}

// uncovered are the followed keys whose records no checkpoint covers.
func (r *run) uncovered(early *logCheck) (keys []string) {
	if r.trust == nil || r.skip.covered {
		return nil
	}
	for _, h := range early.handovers {
		isCovered := func(o handover) bool { return o.New == h.New && o.seq < early.newest.size }
		if r.trust.Trusts(h.New) && !r.opts.Trust.Trusts(h.New) && !slices.ContainsFunc(early.handovers, isCovered) {
			keys = append(keys, h.New)
		}
	}
	return keys
}

// tellFollowed says which keys are believed besides those of the trust file.
func (r *run) tellFollowed() {
	told := map[string]bool{}
	for _, h := range r.followed {
		if r.trust != nil && r.trust.Trusts(h.New) && !r.opts.Trust.Trusts(h.New) && !told[h.New] {
			told[h.New] = true
			r.report.add(Finding{Severity: Pass, Class: ClassSignature, Log: audit.ControlLog, Seq: h.seq, Text: fmt.Sprintf(
				"the key of %s was changed, as record %d of the control log says and both keys signed; it is now %s, which belongs into the trust file", h.Origin, h.seq, h.New)})
		}
	}
}

// former is a key that a trusted one followed on: it is believed up to the change, so that a trust file with the new key
// alone fits the checkpoints of before.
type former struct {
	key   string
	trust *tree.Trust // of this key alone
	until uint64      // leaves
}

// lookBack finds the keys before the trusted ones.
func (r *run) lookBack(early *logCheck) {
	for _, h := range slices.Backward(early.handovers) {
		if r.trust == nil || r.trust.Trusts(h.Old) || r.isFormer(h.Old) || h.seq >= early.newest.size {
			continue
		}
		if !r.trust.Trusts(h.New) && !r.isFormer(h.New) {
			continue
		}
		if trust, err := tree.ParseTrust([]byte(h.Old)); err == nil {
			r.former = append(r.former, former{h.Old, trust, h.Size})
		}
	}
}

func (r *run) isFormer(key string) bool {
	return slices.ContainsFunc(r.former, func(f former) bool { return f.key == key })
}

// openFormer opens a checkpoint that a former key signed; untrusted is what to say if none did.
func (r *run) openFormer(note []byte, untrusted error) (tree.Checkpoint, error) {
	for _, f := range r.former {
		c, err := f.trust.Open(note)
		if errors.Is(err, tree.ErrUntrusted) || err == nil && c.Size > f.until {
			continue
		}
		return c, err
	}
	return tree.Checkpoint{}, untrusted
}

// handed are the claims about a log in what keys said when they handed over.
func (r *run) handed(log string) (claims []claim) {
	if r.skip.handed {
		return nil
	}
	for _, h := range r.followed {
		base, epoch, ok := splitOrigin(h.Origin, log)
		if ok && h.Size > 0 && base == r.agreeOn(base) && r.trust != nil && (r.trust.Trusts(h.Old) || r.trust.Trusts(h.New)) {
			c := claim{size: h.Size, root: h.Root, epoch: epoch, from: fromSuccession, place: h.seq}
			if !slices.ContainsFunc(claims, func(o claim) bool { return o.size == c.size && o.root == c.root }) {
				claims = append(claims, c)
			}
		}
	}
	return claims
}
