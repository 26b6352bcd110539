// The V1 serializer, which the client no longer brings: its `vsn` option alone only says so to the server.

export const V1 = {
  encode: ({ topic, event, payload, ref }, send) => send(JSON.stringify({ topic, event, payload, ref })),
  decode: (text, receive) => receive({ join_ref: null, ...JSON.parse(text) }),
};
