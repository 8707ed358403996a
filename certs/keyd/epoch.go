package keyd

import (
	"crypto"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
)

// EpochOptions say whose next epoch NewEpoch opens.
type EpochOptions struct {
	// Config is the path of keyd.yaml.
	Config string
	// Log is the last part of the configured origin, such as decision; or else Origin is the whole of it.
	Log, Origin string
	// First says that no checkpoint of this origin was ever signed: it was added to keyd.yaml by hand. Only where keyd
	// has no state of it. If it is not true, a second history of the log can be signed beside the first.
	First bool
	// Last is the newest signed checkpoint of the log that can be found, for a keyd that lost its state: the new epoch
	// names it as what it continues. Only where keyd has no state, or cannot read it.
	Last []byte
}

// EpochResult says what was opened.
type EpochResult struct {
	Origin      string // in use from now on
	Previous    string // what its first checkpoint will state; empty with First
	VerifierKey string // of Origin: a line for trust files
}

// NewEpoch opens a successor of a log's origin, for a log that cannot continue: its disk was lost, or it came back from a
// backup and is shorter than what was signed. The first checkpoint of the successor states the last of the old one, so
// that everybody sees what is missing; the old origin is signed no more. keyd must not be running.
func NewEpoch(o EpochOptions) (*EpochResult, error) {
	res, err := newEpoch(o)
	if err != nil {
		return nil, fmt.Errorf("new epoch: %w", err)
	}
	return res, nil
}

func newEpoch(o EpochOptions) (*EpochResult, error) {
	c, err := LoadConfig(o.Config)
	if err != nil {
		return nil, err
	}
	kc, base, err := findOrigin(c, o)
	if err != nil {
		return nil, err
	}
	locked, err := lock(c.StateDir)
	if err != nil {
		return nil, err
	}
	defer locked.Close()
	store, err := openState(c.StateDir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	public, err := publicHalf(c, kc, store)
	if err != nil {
		return nil, err
	}
	next, err := o.nextState(store, base, public)
	if err != nil {
		return nil, err
	}
	line, err := verifierKey(next.last.Origin, public)
	if err != nil {
		return nil, err
	}
	if err := saveState(store, next); err != nil {
		return nil, err
	}
	return &EpochResult{Origin: next.last.Origin, Previous: next.last.Previous, VerifierKey: line}, nil
}

// findOrigin finds the configured origin and its key.
func findOrigin(c *Config, o EpochOptions) (kc KeyConfig, base string, err error) {
	if (o.Log == "") == (o.Origin == "") {
		return kc, "", errors.New("either a log or an origin must be named")
	}
	found := 0
	for _, k := range c.Keys {
		for _, origin := range k.Origins {
			if k.Purpose == wire.Checkpoints && (origin == o.Origin || o.Log != "" && strings.HasSuffix("/"+origin, "/"+o.Log)) {
				kc, base = k, origin
				found++
			}
		}
	}
	if found != 1 {
		return kc, "", fmt.Errorf("%d origins of checkpoint keys are called %q, want one", found, o.Log+o.Origin)
	}
	return kc, base, nil
}

// publicHalf opens the current generation of a key for its public half.
func publicHalf(c *Config, kc KeyConfig, store stateFolder) (crypto.PublicKey, error) {
	state, _, err := loadSlot(store, kc)
	if err != nil {
		return nil, err
	}
	g, ok := state.find(current)
	if !ok {
		return nil, errors.New("it has no key yet")
	}
	stores, err := openBackends(c)
	if err != nil {
		return nil, err
	}
	defer stores.close()
	private, err := stores.of(kc).open(refOf(kc.ref(), g.Number))
	if err != nil {
		return nil, err
	}
	return private.Public(), nil
}

// nextState is the state to go on with. What keyd knows itself goes before what an operator says.
func (o EpochOptions) nextState(store stateFolder, base string, public crypto.PublicKey) (logState, error) {
	state, err := loadState(store, base)
	switch {
	case err == nil && (o.First || o.Last != nil):
		return logState{}, fmt.Errorf("keyd knows what it signed for %s, and needs nobody's word: %s", base, state)
	case err == nil && !state.signed:
		return logState{}, fmt.Errorf("%s is open already, with nothing signed under it", state.last.Origin)
	case err == nil:
		return state.successor(), nil
	case o.First && o.Last == nil && errors.Is(err, errNoState):
		return newLogState(base), nil
	case o.Last != nil && !o.First:
		state, err = lastSigned(base, o.Last, public)
		return state.successor(), err
	}
	return logState{}, fmt.Errorf("%w; the newest signed checkpoint that can be found must be given, or, if there never was one, "+
		"that this is the first epoch", err)
}

// lastSigned believes a checkpoint that this key signed.
func lastSigned(base string, signed []byte, public crypto.PublicKey) (logState, error) {
	cp, err := wire.ParseCheckpoint(noteText(signed))
	if err != nil {
		return logState{}, fmt.Errorf("the last checkpoint: %w", err)
	}
	state := logState{base: base, epoch: 1, signed: true, last: cp}
	if rest, ok := strings.CutPrefix(cp.Origin, base+"/"); ok {
		state.epoch, _ = strconv.ParseUint(rest, 10, 32)
	}
	if state.epoch == 0 || state.epoch >= 1<<32-1 || cp.Origin != wire.EpochOrigin(base, state.epoch) {
		return logState{}, fmt.Errorf("the last checkpoint is not one of %s", base)
	}
	line, err := verifierKey(cp.Origin, public)
	if err != nil {
		return logState{}, err
	}
	v, err := note.NewVerifier(line)
	if err != nil {
		return logState{}, err
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		return logState{}, fmt.Errorf("the last checkpoint was not signed by this key: %w", err)
	}
	return state, nil
}

// noteText is the signed text of a note: all before the last empty line.
func noteText(signed []byte) []byte {
	text := string(signed)
	end := strings.LastIndex(text, "\n\n")
	return signed[:max(0, end+1)]
}
