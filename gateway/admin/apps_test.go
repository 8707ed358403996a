package admin

import (
	"errors"
	"net/http"
	"testing"
)

func TestPurgesNameOneThing(t *testing.T) {
	for purge, good := range map[Purge]bool{
		{}: false, {App: "wiki"}: true, {URL: "https://a/"}: true, {Prefix: "https://a/"}: true,
		{App: "wiki", URL: "https://a/"}: true, {URL: "https://a/", Prefix: "https://a/"}: false,
	} {
		if err := purge.Check(); (err == nil) != good {
			t.Errorf("%+v: got %v", purge, err)
		}
	}
}

// ADM-05: what an operator does to stored answers and addresses is on record before it happens, and so is what failed.
func TestPurgeAndDrainAreOnRecordFirst(t *testing.T) {
	h := &house{ready: true}
	client := client(t, start(t, h, Config{}))
	if purged, err := client.Purge(t.Context(), Purge{App: "wiki"}); err != nil || purged.Entries != 3 {
		t.Errorf("purge: got %+v, %v", purged, err)
	}
	if list, err := client.Drain(t.Context(), Drain{App: "wiki", Address: "a1"}); err != nil || len(list) != 1 {
		t.Errorf("drain: got %+v, %v", list, err)
	}
	for what, err := range map[string]error{
		"purge": second(client.Purge(t.Context(), Purge{App: "gone"})), "drain": second(client.Drain(t.Context(), Drain{App: "gone"})),
	} {
		if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s of what is not there: got %v, want 422", what, err)
		}
	}
	if err := second(client.Purge(t.Context(), Purge{})); err == nil {
		t.Error("a purge of nothing was accepted")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, event := range h.events {
		if (event == "purge {App:wiki URL: Prefix:}" && h.events[i-1] != "record cache_purge") ||
			(event == "drain {App:wiki Address:a1 Undo:false}" && h.events[i-1] != "record upstream_drain") {
			t.Errorf("%s came before its record: %q", event, h.events)
		}
	}
}

// A log that cannot be written stops both.
func TestNothingIsPurgedOrDrainedUnrecorded(t *testing.T) {
	h := &house{ready: true, recordErr: errors.New("disk full")}
	client := client(t, start(t, h, Config{}))
	if err := second(client.Purge(t.Context(), Purge{App: "wiki"})); err == nil {
		t.Error("purged")
	}
	if err := second(client.Drain(t.Context(), Drain{App: "wiki", Address: "a1"})); err == nil {
		t.Error("drained")
	}
	if len(h.events) > 0 {
		t.Errorf("it happened: %q", h.events)
	}
}

func second[T any](_ T, err error) error { return err }
