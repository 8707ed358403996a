package sqlite_test

import (
	"path/filepath"
	"testing"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
	"sallyport/authn/session/sqlite"
)

func TestStoreKeepsItsContract(t *testing.T) {
	sessiontest.Run(t, func(t testing.TB) func() session.Store {
		path := filepath.Join(t.TempDir(), "state.db")
		return func() session.Store { return open(t, path) }
	})
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
