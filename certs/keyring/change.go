package keyring

import (
	"context"
	"reflect"
	"slices"
)

// OnChange has f called each time that keyd's list of keys has changed: a key was announced, became the current one, was
// destroyed, or the configuration was reloaded. Calls come one after another; changes that come close together may make
// one. A change shows within two seconds. It cannot be undone.
func (c *Client) OnChange(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, f)
}

// Keys are keyd's keys as it told them last, in the order of its configuration, the current one of a name first. The
// list is at most two seconds old while keyd is there.
func (c *Client) Keys() []Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

// listed takes a list of keys that keyd told.
func (c *Client) listed(keys []Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listedLocked(keys)
}

func (c *Client) listedLocked(keys []Key) {
	if reflect.DeepEqual(keys, c.keys) {
		return
	}
	c.keys = keys
	select {
	case c.news <- struct{}{}:
	default: // somebody is about to tell already
	}
}

// tell calls the listeners of changes until ctx ends.
func (c *Client) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		}
		c.mu.Lock()
		listeners := slices.Clone(c.listeners)
		c.mu.Unlock()
		for _, f := range listeners {
			f()
		}
	}
}
