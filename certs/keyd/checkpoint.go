package keyd

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"sallyport/certs/internal/wire"
)

// turnWithin is how long a checkpoint waits for the one before it: less than the gateway waits for an answer. A disk that
// hangs must not gather requests until its connection has no place for handshakes.
const turnWithin = time.Second

// emptyRoot is the root of a tree without leaves: RFC 6962 §2.1.
var emptyRoot = sha256.Sum256(nil)

// conflict is the last checkpoint signed, where a request grows from another one.
type conflict wire.Checkpoint

func (conflict) Error() string { return "another checkpoint was signed last" }

// ledger is what keyd knows of one log: the last checkpoint it signed. It signs only what continues that one, so that a
// gateway taken over by a stranger can add to a log, and cannot shorten, rewrite or fork it.
type ledger struct {
	base  string // the configured origin
	store stateFolder
	turn  chan struct{} // holds one: a checkpoint at a time

	mu      sync.Mutex
	signers []noteSigner // under the origin in use: by the current key, and by those that retire
	state   logState
	problem error // why nothing is signed; nil if state is known
	durable bool  // state is known to be on disk
}

// openLedger reads what was signed last. A ledger whose state cannot be read refuses to sign, and says why: a log that
// starts anew because a file was lost is what it exists to prevent. It signs nothing before signWith.
func openLedger(base string, store stateFolder) *ledger {
	l := &ledger{base: base, store: store, turn: make(chan struct{}, 1)}
	l.state, l.problem = loadState(store, base)
	if l.problem != nil {
		l.state = newLogState(base)
	}
	return l
}

// signWith has the next checkpoints signed by these keys, the current one first.
func (l *ledger) signWith(privates ...crypto.Signer) error {
	state, _ := l.position() // without one nothing is signed anyway
	signers := make([]noteSigner, 0, len(privates))
	for _, private := range privates {
		s, err := newNoteSigner(state.last.Origin, private)
		if err != nil {
			return err
		}
		signers = append(signers, s)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signers = signers
	return nil
}

// sign returns the lines of all signatures.
func (l *ledger) sign(text []byte) ([]byte, error) {
	l.mu.Lock()
	signers := l.signers
	l.mu.Unlock()
	if len(signers) == 0 {
		return nil, errors.New("BUG: a log without a key")
	}
	var lines []byte
	for _, s := range signers {
		line, err := s.signatures(text)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line...)
	}
	return lines, nil
}

// position is the state, or why there is none.
func (l *ledger) position() (logState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.problem
}

// grow signs next if it continues the last checkpoint, after noting that it does, for good.
func (l *ledger) grow(next wire.Checkpoint, g wire.Growth) ([]byte, error) {
	timer := time.NewTimer(turnWithin)
	defer timer.Stop()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-timer.C:
		return nil, errors.New("an earlier checkpoint of this log still waits for the disk")
	}
	state, err := l.position()
	if err != nil {
		return nil, err
	}
	if err := state.admits(next, g); err != nil {
		return nil, err
	}
	state.last.Size, state.last.Root, state.signed = next.Size, next.Root, true
	if err := l.keep(state); err != nil {
		return nil, err
	}
	return l.sign(g.Body)
}

// keep returns when the state is on disk. It writes nothing that is there already, but only trusts what it wrote itself:
// what a killed keyd left behind may not have reached the disk.
func (l *ledger) keep(state logState) error {
	l.mu.Lock()
	done := l.durable && l.state == state
	l.mu.Unlock()
	if done {
		return nil
	}
	if err := saveState(l.store, state); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.durable = state, true
	return nil
}

// admits tells whether next may be signed after state: KEY-14.
func (s logState) admits(next wire.Checkpoint, g wire.Growth) error {
	if next.Origin != s.last.Origin {
		return refusal("not the origin in use")
	}
	if err := s.admitsPrevious(next.Previous); err != nil {
		return err
	}
	if next.Size == 0 && next.Root != emptyRoot {
		return refusal("no tree of size 0 has this root")
	}
	if s.signed && next.Size == s.last.Size && next.Root == s.last.Root {
		return nil // whoever asked may not have heard the answer
	}
	switch last := s.last; {
	case g.Old != last.Size:
		return conflict(last)
	case next.Size < last.Size:
		return refusal("smaller than the last one signed")
	case next.Size == last.Size && next.Root != last.Root:
		return refusal("another tree of the size signed last")
	case last.Size == 0 || next.Size == last.Size:
		if len(g.Proof) > 0 {
			return refusal("a proof where there is nothing to prove")
		}
		return nil
	}
	return checkGrowth(s.last, next, g.Proof)
}

// admitsPrevious demands that the first checkpoint of a later epoch names what it continues. The others may, so that
// the statement survives if the answer to the first is lost. Nothing else may be said.
func (s logState) admitsPrevious(line string) error {
	if line != "" && line != s.last.Previous {
		return refusal("not the log that this one continues")
	}
	if line == "" && s.last.Previous != "" && !s.signed {
		return refusal("the first checkpoint of an epoch must name the log that it continues")
	}
	return nil
}

// checkGrowth verifies a consistency proof, RFC 6962 §2.1.4.2 (as RFC 9162 numbers it). Both trees have leaves.
func checkGrowth(last, next wire.Checkpoint, proof [][32]byte) error {
	p := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		p[i] = h
	}
	if err := tlog.CheckTree(p, int64(next.Size), next.Root, int64(last.Size), last.Root); err != nil {
		return refusal("not proved to continue the last one signed")
	}
	return nil
}

// ledgers are the logs of one checkpoint key.
type ledgers []*ledger

// sign answers sign_checkpoint.
func (all ledgers) sign(message []byte) ([]byte, error) {
	g, err := wire.ParseGrowth(message)
	if err != nil {
		return nil, refusal(err.Error())
	}
	next, err := wire.ParseCheckpoint(g.Body)
	if err != nil {
		return nil, refusal(err.Error())
	}
	for _, l := range all {
		if s, _ := l.position(); s.last.Origin == next.Origin {
			return l.grow(next, g)
		}
	}
	return nil, refusal("this key signs for no such origin now")
}

// position answers checkpoint_position.
func (all ledgers) position(base string) ([]byte, error) {
	for _, l := range all {
		if l.base == base {
			s, err := l.position()
			return s.last.AppendText(nil), err
		}
	}
	return nil, refusal("this key has no such origin")
}

// describe says under which names the key signs.
func (all ledgers) describe(public crypto.PublicKey) (list []wire.Origin, err error) {
	for _, l := range all {
		o := wire.Origin{Base: l.base}
		if s, problem := l.position(); problem == nil {
			o.InUse = s.last.Origin
			if o.VerifierKeys, err = verifierKeys(l.base, s.epoch, public); err != nil {
				return nil, err
			}
		}
		list = append(list, o)
	}
	return list, nil
}

// status says how far each log is signed.
func (all ledgers) status() (list []wire.NoteStatus) {
	for _, l := range all {
		s, err := l.position()
		n := wire.NoteStatus{Name: s.last.Origin}
		if err != nil {
			n.Problem = err.Error()
		} else if s.signed {
			n.Size, n.Root = s.last.Size, wire.Base64(s.last.Root)
		}
		list = append(list, n)
	}
	return list
}

// String is the state for logs.
func (s logState) String() string {
	if !s.signed {
		return fmt.Sprintf("%s, nothing signed yet", s.last.Origin)
	}
	return fmt.Sprintf("%s, size %d, root %s", s.last.Origin, s.last.Size, wire.Base64(s.last.Root))
}
