package main

import (
	"context"
	"errors"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// machine is a client with a secret, for the grant client_credentials.
type machine struct {
	Secret   string
	Audience []string
	Claims   map[string]any
}

type machineClient struct {
	client
	id string
}

func (c machineClient) GetID() string { return c.id }

func (c machineClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

func (p *provider) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	if known, ok := p.machines[id]; !ok || known.Secret != secret {
		return nil, errors.New("wrong client or secret")
	}
	return machineClient{client{storage.WebClient(id, secret), false}, id}, nil
}

func (p *provider) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &oidc.JWTTokenRequest{Subject: id, Audience: p.machines[id].Audience, Scopes: scopes}, nil
}
