package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"sallyport/audit/tree"
)

// keyProcess stands for the key process: what it signed last is durable when it answers, and it signs nothing that does
// not grow from it.
type keyProcess struct {
	mu      sync.Mutex
	signers map[string]note.Signer
	last    map[string]tree.Checkpoint // by log
	asked   int
	fault   func(op, log string) error // asked before each request; may block
	lost    func(op, log string) error // asked before each answer
	watch   func(log string, next tree.Checkpoint)
}

const testOrigin = "corp.example/audit"

func newKeyProcess() *keyProcess {
	k := &keyProcess{signers: map[string]note.Signer{}, last: map[string]tree.Checkpoint{}}
	for _, log := range []string{DecisionLog, ControlLog} {
		k.epoch(log, testOrigin+"/"+log)
	}
	return k
}

// epoch begins a series of checkpoints under that origin.
func (k *keyProcess) epoch(log, origin string, extensions ...string) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, origin)
	secret := ed25519.NewKeyFromSeed(seed)
	signer := &noteSigner{name: origin, key: secret}
	vkey, err := note.NewEd25519VerifierKey(origin, secret.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		panic(err)
	}
	signer.hash = verifier.KeyHash()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signers[origin] = signer
	k.last[log] = tree.Checkpoint{Origin: origin, Root: tree.EmptyRoot, Extensions: extensions}
}

type noteSigner struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func (s *noteSigner) Name() string                     { return s.name }
func (s *noteSigner) KeyHash() uint32                  { return s.hash }
func (s *noteSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key, text), nil }

// trust is the trust file of all its keys.
func (k *keyProcess) trust() *tree.Trust {
	var lines []byte
	for _, s := range k.signers {
		key := s.(*noteSigner)
		vkey, err := note.NewEd25519VerifierKey(key.name, key.key.Public().(ed25519.PublicKey))
		if err != nil {
			panic(err)
		}
		lines = append(append(lines, vkey...), '\n')
	}
	t, err := tree.ParseTrust(lines)
	if err != nil {
		panic(err)
	}
	return t
}

func (k *keyProcess) hooks() (fault, lost func(op, log string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault, k.lost
}

func (k *keyProcess) setFault(fault, lost func(op, log string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault, k.lost = fault, lost
}

func (k *keyProcess) position(log string) tree.Checkpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last[log]
}

func (k *keyProcess) Position(ctx context.Context, log string) (tree.Checkpoint, error) {
	fault, _ := k.hooks()
	if fault != nil {
		if err := fault("position", log); err != nil {
			return tree.Checkpoint{}, err
		}
	}
	return k.position(log), ctx.Err()
}

func (k *keyProcess) Sign(ctx context.Context, log string, next tree.Checkpoint, oldSize uint64, proof []tree.Hash) ([]byte, error) {
	fault, lost := k.hooks()
	if fault != nil {
		if err := fault("sign", log); err != nil {
			return nil, err
		}
	}
	signed, err := k.sign(log, next, oldSize, proof)
	if err == nil && lost != nil {
		err = lost("sign", log)
	}
	return signed, errors.Join(err, ctx.Err())
}

func (k *keyProcess) sign(log string, next tree.Checkpoint, oldSize uint64, proof []tree.Hash) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	last := k.last[log]
	switch {
	case next.Origin != last.Origin || len(last.Extensions) > 0 && last.Size == 0 && len(next.Extensions) == 0:
		return nil, fmt.Errorf("not the origin in use: %q", next.Origin)
	case next.Size == last.Size && next.Root == last.Root: // again
	case oldSize != last.Size || next.Size < last.Size:
		return nil, fmt.Errorf("signed %d last, not %d", last.Size, oldSize)
	default:
		if err := tree.VerifyConsistency(last.Size, next.Size, last.Root, next.Root, proof); err != nil {
			return nil, err
		}
	}
	if k.watch != nil {
		k.watch(log, next)
	}
	k.last[log] = next
	return note.Sign(&note.Note{Text: string(next.Body())}, k.signers[next.Origin])
}
