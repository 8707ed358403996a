package searchtest

import (
	"testing"

	"sallyport/audit/search"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) func() search.Store {
		m := NewMemory()
		return func() search.Store { return m }
	})
}
