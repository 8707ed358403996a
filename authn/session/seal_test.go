package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

func TestSealedTextOpensForItsPurposeOnly(t *testing.T) {
	store := sessiontest.NewMemory()
	k := keeper(t, store)
	sealed := k.Seal("flow", []byte("state"))
	for _, same := range []*session.Keeper{k, keeper(t, store)} {
		if got, err := same.Open("flow", sealed); err != nil || string(got) != "state" {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	if sealed == k.Seal("flow", []byte("state")) {
		t.Error("one text was sealed twice in the same way")
	}
	for _, purpose := range []string{"", "flow ", "Flow", "back"} {
		if _, err := k.Open(purpose, sealed); !errors.Is(err, session.ErrSealed) {
			t.Errorf("Open for %q: %v, want ErrSealed", purpose, err)
		}
	}
	if _, err := keeper(t, sessiontest.NewMemory()).Open("flow", sealed); !errors.Is(err, session.ErrSealed) {
		t.Errorf("Open with another store's key: %v, want ErrSealed", err)
	}
}

// rotated is a store with an older key behind the newest.
type rotated struct {
	*sessiontest.Memory
	keys []session.SealingKey
}

func (s rotated) SealingKeys(context.Context) ([]session.SealingKey, error) { return s.keys, nil }

func TestOlderKeysOpenAndTheNewestSeals(t *testing.T) {
	m := sessiontest.NewMemory()
	older := session.SealingKey{ID: 1, Secret: session.Secret{1}}
	newer := session.SealingKey{ID: 2, Secret: session.Secret{2}, Made: time.Now()}
	before := keeper(t, rotated{m, []session.SealingKey{older}})
	both := keeper(t, rotated{m, []session.SealingKey{newer, older}})
	after := keeper(t, rotated{m, []session.SealingKey{newer}})

	handle, s := signIn(t, before, "ada")
	if got, err := both.SignedIn(t.Context(), handle); err != nil || got.ID != s.ID {
		t.Errorf("a handle from before a rotation: %v, %v", got, err)
	}
	if got, _, err := both.Secrets(t.Context(), s.ID); err != nil || got.RefreshToken != "refresh-ada" {
		t.Errorf("a refresh token from before a rotation: %q, %v", got.RefreshToken, err)
	}
	if got, err := after.Open("p", both.Seal("p", []byte("x"))); err != nil || string(got) != "x" {
		t.Errorf("the newest key does not seal: %v", err)
	}
	if _, err := after.Open("p", before.Seal("p", []byte("x"))); !errors.Is(err, session.ErrSealed) {
		t.Errorf("a key that is gone opens: %v", err)
	}
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	var log bytes.Buffer
	key := session.SealingKey{ID: 1, Secret: session.Secret{0xab, 0xcd, 0xef}}
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "secret", key.Secret, "key", key)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "secret", key.Secret, "key", key)
	text := log.String() + fmt.Sprintf("%v %+v %#v %s %x", key, key, key, key.Secret, key.Secret)
	for _, form := range []string{"171 205", "171,205", "abcdef", "0xab", "q83v"} { // as numbers, hex, Go and base64
		if strings.Contains(text, form) {
			t.Errorf("a key is printed as %s: %s", form, text)
		}
	}
}

// FuzzSealedTextHasOneSpelling: nothing but what Seal returned opens, not even another encoding of the same bytes.
func FuzzSealedTextHasOneSpelling(f *testing.F) {
	k := keeper(f, sessiontest.NewMemory())
	sealed := k.Seal("flow", []byte("state"))
	for _, s := range []string{sealed, sealed + "=", sealed + "\n", "\r" + sealed, sealed[:len(sealed)-1], strings.ToLower(sealed), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := k.Open("flow", text); err == nil && text != sealed {
			t.Errorf("%q opens to %q", text, got)
		}
		if got, err := k.Open("flow", k.Seal("flow", []byte(text))); err != nil || string(got) != text {
			t.Errorf("Open of Seal of %q = %q, %v", text, got, err)
		}
	})
}
