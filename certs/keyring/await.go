package keyring

import "context"

// AwaitReady returns nil as soon as keyd is connected, and otherwise, when ctx ends, why it is not.
func (c *Client) AwaitReady(ctx context.Context) error {
	_, err := c.current(ctx)
	return err
}
