package keyring

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"

	"sallyport/certs/internal/wire"
)

// Slot is a key of keyd's configuration, whatever its generations are. A managed slot of purpose tls-server has keys only
// as far as MakeCSR and Adopt made some.
type Slot = wire.Slot

// Slots asks keyd for the keys of its configuration, in its order.
func (c *Client) Slots(ctx context.Context) ([]Slot, error) {
	body, err := c.request(ctx, wire.OpList, nil)
	if err != nil {
		return nil, err
	}
	var list wire.List
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("reading keyd's keys: %w", err)
	}
	return list.Slots, nil
}

// MakeCSR has keyd make a key in a managed slot and returns it with a request for a certificate for names (PKCS #10, DER),
// which the key signed. The key signs nothing else, and is in no list, before Adopt. ErrRefused means that a name is not
// the slot's, that two keys wait already, or that the slot is not managed.
func (c *Client) MakeCSR(ctx context.Context, slot string, names []string) (Key, []byte, error) {
	body, err := json.Marshal(wire.CSRRequest{Slot: slot, Names: names})
	if err != nil {
		return Key{}, nil, err
	}
	answer, err := c.request(ctx, wire.OpMakeCSR, body)
	if err != nil {
		return Key{}, nil, err
	}
	id, der, err := wire.SplitSignBody(answer)
	if err != nil {
		return Key{}, nil, fmt.Errorf("reading keyd's answer: %w", err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Key{}, nil, fmt.Errorf("reading keyd's certificate request: %w", err)
	}
	if got, err := wire.ID(request.PublicKey); err != nil || !bytes.Equal(got[:], id[:]) {
		return Key{}, nil, errors.New("keyd's certificate request is not of the key that it names")
	}
	return Key{Name: slot, Purpose: PurposeTLSServer, ID: id.String(), Public: request.PublicKey, Names: names}, der, nil
}

// Adopt makes a key of MakeCSR, of which only Public matters here, the current one of its slot, because there is a
// certificate for it. The one before is destroyed after the slot's overlap. Adopting the current key again is no error.
func (c *Client) Adopt(ctx context.Context, k Key) error {
	id, err := wire.ID(k.Public)
	if err != nil {
		return err
	}
	_, err = c.request(ctx, wire.OpAdoptKey, id[:])
	return err
}
