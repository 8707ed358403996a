package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Past finds what is left of a session that expired by a handle of its on a host ("" is the sign-in host). ErrNoSession
// when the session lives, ended for another reason, more than PastTime ago or too many sessions ago, and for a handle of
// another host. Nobody is signed in by it: it only tells whose session a browser had.
func (k *Keeper) Past(ctx context.Context, host, handle string) (Past, error) {
	hash, ok := hashHandle(handle)
	if !ok || !k.made(handle) {
		return Past{}, ErrNoSession
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	t, err := k.store.Past(ctx, hash)
	if err == nil {
		return k.past(t, host)
	}
	if !errors.Is(err, ErrNoSession) {
		return Past{}, unavailable("reading an expired session", err)
	}
	e, at, err := k.get(ctx, hash) // expired but not yet removed
	if err != nil {
		return Past{}, unavailable("reading an expired session", err)
	}
	return k.past(Trace{SessionID: e.ID, Subject: e.Identity.ID(), Host: at, Created: e.Created, Seen: k.seen(e)}, host)
}

// past judges by the time at which the session reached a limit, not by when it was removed: a gateway that was stopped
// overnight makes nothing younger.
func (k *Keeper) past(t Trace, host string) (Past, error) {
	limits := k.limits.Load()
	ended := t.Created.Add(limits.Absolute)
	if idle := t.Seen.Add(limits.Idle); idle.Before(ended) {
		ended = idle
	}
	if ago := k.now().Sub(ended); t.Host != host || ago < 0 || ago >= PastTime {
		return Past{}, ErrNoSession
	}
	return Past{SessionID: t.SessionID, Subject: t.Subject, Ended: ended}, nil
}

// KeepForm holds the form of a session that expired for FormTime, sealed, and returns the id by which the browser asks
// for it. A session keeps one form and no second one (ErrConflict), even after the first was taken; ErrFormRefused when
// it is larger than MaxForm or MaxForms are held. The form is durable when KeepForm returns.
func (k *Keeper) KeepForm(ctx context.Context, sessionID string, form []byte) (id string, err error) {
	if sessionID == "" {
		return "", ErrNoSession
	}
	if len(form) > MaxForm {
		return "", fmt.Errorf("%w: %d bytes, at most %d are kept", ErrFormRefused, len(form), MaxForm)
	}
	id = rand.Text()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = k.store.KeepForm(ctx, Form{
		ID: formHash(id), Session: sessionID, Sealed: []byte(k.Seal(formPurpose(id), form)), Until: k.now().Add(FormTime).UTC().Round(0),
	})
	if err != nil {
		return "", unavailable("keeping a form", err)
	}
	return id, nil
}

// Form returns a form that is held, or ErrNoForm.
func (k *Keeper) Form(ctx context.Context, id string) ([]byte, error) {
	return k.form(ctx, id, k.store.Form)
}

// TakeForm returns a form that is held for the last time: of any number of calls one gets it, all others ErrNoForm.
func (k *Keeper) TakeForm(ctx context.Context, id string) ([]byte, error) {
	return k.form(ctx, id, k.store.TakeForm)
}

func (k *Keeper) form(ctx context.Context, id string, read func(context.Context, Hash) (Form, error)) ([]byte, error) {
	if id == "" || len(id) > 64 {
		return nil, ErrNoForm
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	f, err := read(ctx, formHash(id))
	if err != nil {
		return nil, unavailable("reading a form", err)
	}
	if left := f.Until.Sub(k.now()); left <= 0 || left > FormTime+time.Minute {
		return nil, ErrNoForm
	}
	plain, err := k.Open(formPurpose(id), string(f.Sealed))
	if err != nil {
		return nil, fmt.Errorf("session: a kept form: %w", err)
	}
	return plain, nil
}

func formHash(id string) Hash { return sha256.Sum256([]byte(id)) }

func formPurpose(id string) string { return "session form " + id }

// Person returns what is known of somebody (provider|subject) who signed in, whether they have a session now or not.
// ErrNoPerson when their provider has not spoken of them for PersonTime.
func (k *Keeper) Person(ctx context.Context, subject string) (Person, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	p, err := k.store.Person(ctx, subject)
	if err != nil {
		return Person{}, unavailable("reading a person", err)
	}
	if k.now().Sub(p.Confirmed) >= PersonTime {
		return Person{}, ErrNoPerson
	}
	return p, nil
}

// Disable says that a person's (provider|subject) provider no longer speaks for them, until it does again: a later
// sign-in or renewal. One who is not known needs none: no error. It ends no session: see End.
func (k *Keeper) Disable(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := k.store.Disable(ctx, subject, k.now().UTC().Round(0))
	if err != nil && !errors.Is(err, ErrNoPerson) {
		return unavailable("disabling a person", err)
	}
	return nil
}
