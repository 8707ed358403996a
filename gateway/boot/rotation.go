package boot

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sallyport/authn/token"
	"sallyport/certs/keyring"
)

// longestKeysLife is how long key sets may be kept, at most.
const longestKeysLife = 5 * time.Minute

// rotation follows the key process's keys through their generations: signatures are made with the current one of a
// name, key sets hold all that are alive, and the control log says what changed.
type rotation struct {
	clientKeys atomic.Pointer[[]byte]
	keysLife   atomic.Int64  // a time.Duration
	known      []keyring.Key // as of the last look; of the one goroutine that looks
}

// rotating is the key of a name, whichever that is at the time.
type rotating struct {
	keys *keyring.Client
	name string
	last atomic.Pointer[keyring.AssertionSigner]
}

var _ token.Rotating = (*rotating)(nil)

func newRotating(keys *keyring.Client, name string) (*rotating, error) {
	signer, err := keys.Assertion(name)
	if err != nil {
		return nil, err
	}
	r := &rotating{keys: keys, name: name}
	r.last.Store(signer)
	return r, nil
}

// Current is the current key. If the key process has none of that name any more, it is the last there was, with which it
// refuses to sign.
func (r *rotating) Current() token.Signer {
	if signer, err := r.keys.Assertion(r.name); err == nil {
		r.last.Store(signer)
	}
	return r.last.Load()
}

// KeyID is the current key's.
func (r *rotating) KeyID() string { return r.Current().KeyID() }

// Public is the current key's.
func (r *rotating) Public() crypto.PublicKey { return r.Current().Public() }

// SignJWT signs with the current key. Who writes its id into the token asks Current first.
func (r *rotating) SignJWT(ctx context.Context, signingInput []byte) ([]byte, error) {
	return r.Current().SignJWT(ctx, signingInput)
}

// tendKeys publishes keys as they are now and, until the gateway stops, whenever they change.
func (a *assembly) tendKeys() error {
	changed := make(chan struct{}, 1)
	a.keys.OnChange(func() { // before the first look, or what changes behind it would wait for the next change
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	a.rotation.known = a.keys.Keys()
	if err := a.publishKeys(); err != nil {
		return err
	}
	a.group.Go(func() error {
		a.restateSuccessions(a.ctx)
		for {
			select {
			case <-a.ctx.Done():
				return nil
			case <-changed:
				a.keysChanged(a.ctx)
			}
		}
	})
	return nil
}

// keysChanged takes up a change.
func (a *assembly) keysChanged(ctx context.Context) {
	before := a.rotation.known
	a.rotation.known = a.keys.Keys()
	if err := a.publishKeys(); err != nil {
		a.opts.Log.Error("keys are published as they were", "error", err)
	}
	a.recordKeys(ctx, before, a.rotation.known)
}

// publishKeys makes the key sets anew.
func (a *assembly) publishKeys() error {
	var assertions, clients []token.Signer
	life := longestKeysLife
	for _, k := range a.rotation.known {
		switch k.Purpose {
		case keyring.PurposeAssertion:
			assertions = append(assertions, a.keys.AssertionOf(k))
		case keyring.PurposeOIDCClient:
			clients = append(clients, a.keys.AssertionOf(k))
		default:
			continue
		}
		if k.Announce > 0 {
			life = min(life, k.Announce/2)
		}
	}
	document, err := token.JWKS(clients...)
	if err != nil {
		return fmt.Errorf("the keys that identity providers know us by: %w", err)
	}
	a.rotation.clientKeys.Store(&document)
	a.rotation.keysLife.Store(int64(life))
	if err := a.minter.Publish(assertions...); err != nil {
		return fmt.Errorf("the keys that vouch to apps: %w", err)
	}
	return nil
}

// recordKeys writes what changed into the control log.
func (a *assembly) recordKeys(ctx context.Context, before, now []keyring.Key) {
	find := func(list []keyring.Key, id string) *keyring.Key {
		if i := slices.IndexFunc(list, func(k keyring.Key) bool { return k.ID == id }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	for _, k := range now {
		was := find(before, k.ID)
		switch {
		case k.Current && (was == nil || !was.Current):
			a.control(ctx, "key_rotated", nil, keyDetail(k))
			a.handedOver(ctx, k, "")
		case was == nil:
			a.control(ctx, "key_announced", nil, keyDetail(k))
		}
	}
	for _, k := range before {
		if find(now, k.ID) == nil {
			a.control(ctx, "key_removed", nil, keyDetail(k))
		}
	}
}

// keyDetail describes a key in records.
func keyDetail(k keyring.Key) map[string]any {
	return map[string]any{"key": k.Name, "purpose": k.Purpose, "id": k.ID, "generation": k.Generation}
}

// restateSuccessions says again, at each start, by which changes the keys that sign the log came to be the ones that do: a
// change while no gateway ran would not be told otherwise, and the record of an old one may be pruned.
func (a *assembly) restateSuccessions(ctx context.Context) {
	for _, k := range a.rotation.known {
		if k.Current {
			a.handedOver(ctx, k, "start")
		}
	}
}

// handedOver records the notes with which keys handed the names of k over to each other, down to k.
func (a *assembly) handedOver(ctx context.Context, k keyring.Key, why string) {
	for _, o := range k.Origins {
		notes, err := a.keys.Successions(ctx, k, o.Base)
		if err != nil {
			a.opts.Log.Error("the key process does not say which keys came before", "key", k.Name, "origin", o.Base, "error", err)
			continue
		}
		if len(notes) == 0 {
			continue
		}
		a.control(ctx, "checkpoint_key_changed", nil, map[string]any{
			"key": k.Name, "origin": o.Base, "id": k.ID, "generation": k.Generation, "why": why, "notes": strings.Join(notes, "\n"),
		})
	}
}
