package sqlite

import (
	"testing"

	"sallyport/audit/search"
	"sallyport/audit/search/searchtest"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	searchtest.Run(t, func(t *testing.T) func() search.Store {
		dir := t.TempDir()
		return func() search.Store { return open(t, dir) }
	})
}
