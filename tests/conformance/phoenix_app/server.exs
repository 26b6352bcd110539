# The reference application, on a real Phoenix: what the mock server imitates, and what the conformance tests talk to.
#
#     PORT=4000 elixir server.exs
#
# It can be crashed, stopped and flooded by whoever reaches it, so it listens on the loopback interface only.
# PHOENIX names another release, such as PHOENIX="1.7.24"; see README.md.

Mix.install([
  {:phoenix, System.get_env("PHOENIX", "~> 1.7")},
  {:bandit, "~> 1.5"},
  {:jason, "~> 1.4"}
])

Logger.configure(level: :warning)

port = String.to_integer(System.get_env("PORT", "4000"))

Application.put_env(:reference, Reference.Endpoint,
  adapter: Bandit.PhoenixAdapter,
  check_origin: false,
  http: [ip: {127, 0, 0, 1}, port: port],
  pubsub_server: Reference.PubSub,
  render_errors: [formats: [json: Reference.ErrorJSON], layout: false],
  secret_key_base: Base.encode64(:crypto.strong_rand_bytes(48)),
  server: true,
  url: [host: "localhost"]
)

defmodule Reference.ErrorJSON do
  @moduledoc "The body of an answer to a request that crashed."

  def render(template, _assigns) do
    %{errors: %{detail: Phoenix.Controller.status_message_from_template(template)}}
  end
end

defmodule Reference.Presence do
  @moduledoc "Who is in the `presence:*` topics."

  use Phoenix.Presence, otp_app: :reference, pubsub_server: Reference.PubSub
end

defmodule Reference.Channels do
  @moduledoc "Which channel processes there are for a topic, so that the HTTP side can end them."

  def child_spec(_options), do: Registry.child_spec(keys: :duplicate, name: __MODULE__)

  @doc "Note the calling channel process; it is forgotten when it ends."
  def note(topic), do: {:ok, _owner} = Registry.register(__MODULE__, topic, nil)

  @doc "The channel processes of a topic."
  def of(topic), do: for({pid, nil} <- Registry.lookup(__MODULE__, topic), do: pid)
end

defmodule Reference.RoomChannel do
  @moduledoc "`room:*` and `exact`; some rooms behave oddly when joined."

  use Phoenix.Channel

  @slow_join_ms 3_000
  @stop_soon_ms 200

  @impl true
  def join("room:forbidden", _params, _socket), do: {:error, %{reason: "unauthorized"}}
  def join("room:crash_on_join", _params, _socket), do: raise("join")

  def join("room:bare" = topic, _params, socket) do
    Reference.Channels.note(topic)
    {:ok, socket}
  end

  def join("room:auth" = topic, _params, socket) do
    Reference.Channels.note(topic)
    {:ok, Map.take(socket.assigns, [:auth_token, :connect_params]), socket}
  end

  def join("room:slow" = topic, params, socket) do
    Process.sleep(@slow_join_ms)
    accept(topic, params, socket)
  end

  def join("room:after_join" = topic, params, socket) do
    send(self(), :after_join)
    accept(topic, params, socket)
  end

  def join("room:stop_soon" = topic, params, socket) do
    Process.send_after(self(), :stop_soon, @stop_soon_ms)
    accept(topic, params, socket)
  end

  def join(topic, params, socket), do: accept(topic, params, socket)

  defp accept(topic, params, socket) do
    Reference.Channels.note(topic)
    {:ok, %{joined: topic, params: params}, socket}
  end

  # Replies

  @impl true
  def handle_in("echo", payload, socket), do: {:reply, {:ok, payload}, socket}
  def handle_in("fail", payload, socket), do: {:reply, {:error, payload}, socket}
  def handle_in("noreply", _payload, socket), do: {:noreply, socket}
  def handle_in("ok_only", _payload, socket), do: {:reply, :ok, socket}
  def handle_in("error_only", _payload, socket), do: {:reply, :error, socket}
  def handle_in("custom_status", payload, socket), do: {:reply, {:retry_later, payload}, socket}

  def handle_in("late_reply", %{"ms" => ms} = payload, socket) do
    Process.send_after(self(), {:late_reply, socket_ref(socket), payload}, ms)
    {:noreply, socket}
  end

  # Events

  def handle_in("push_then_reply", payload, socket) do
    push(socket, "pushed", payload)
    {:reply, {:ok, payload}, socket}
  end

  def handle_in("push_n", %{"n" => n} = payload, socket) do
    padding = padding(payload)
    for i <- 1..n//1, do: push(socket, "tick", Map.put(padding, :i, i))
    {:reply, {:ok, %{n: n}}, socket}
  end

  def handle_in("broadcast", %{"event" => event, "payload" => payload}, socket) do
    broadcast!(socket, event, payload)
    {:noreply, socket}
  end

  def handle_in("broadcast_reply", %{"event" => event, "payload" => payload}, socket) do
    broadcast!(socket, event, payload)
    {:reply, :ok, socket}
  end

  def handle_in("broadcast_from", %{"event" => event, "payload" => payload}, socket) do
    broadcast_from!(socket, event, payload)
    {:reply, :ok, socket}
  end

  # Ends

  def handle_in("crash", _payload, _socket), do: raise("crash")
  def handle_in("exit", _payload, _socket), do: exit(:boom)

  def handle_in("kill", _payload, socket) do
    Process.exit(self(), :kill)
    {:noreply, socket}
  end

  def handle_in("kill_transport", _payload, socket) do
    Process.exit(socket.transport_pid, :kill)
    {:noreply, socket}
  end

  def handle_in("stop", _payload, socket), do: {:stop, :normal, socket}
  def handle_in("stop_shutdown", _payload, socket), do: {:stop, :shutdown, socket}
  def handle_in("stop_reply", payload, socket), do: {:stop, :normal, {:ok, payload}, socket}
  def handle_in("stop_abnormal", _payload, socket), do: {:stop, :abnormal, socket}

  # Binary payloads, which come in a binary frame or as Base64 in JSON

  def handle_in("binary_echo", payload, socket), do: {:reply, {:ok, binary(payload)}, socket}
  def handle_in("binary_fail", payload, socket), do: {:reply, {:error, binary(payload)}, socket}

  def handle_in("binary_push", payload, socket) do
    push(socket, "binary_push", binary(payload))
    {:noreply, socket}
  end

  def handle_in("binary_broadcast", payload, socket) do
    broadcast!(socket, "binary_broadcast", binary(payload))
    {:noreply, socket}
  end

  defp binary({:binary, _data} = payload), do: payload
  defp binary(%{"b64" => text}), do: {:binary, Base.decode64!(text)}

  defp padding(%{"size" => size}), do: %{pad: String.duplicate("x", size)}
  defp padding(_payload), do: %{}

  @impl true
  def handle_info(:after_join, socket) do
    broadcast!(socket, "user_entered", %{topic: socket.topic})
    push(socket, "joined", %{topic: socket.topic})
    {:noreply, socket}
  end

  def handle_info(:stop_soon, socket), do: {:stop, :normal, socket}

  def handle_info({:late_reply, ref, payload}, socket) do
    reply(ref, {:ok, payload})
    {:noreply, socket}
  end
end

defmodule Reference.PresenceChannel do
  @moduledoc "`presence:*`: joins with `{user}` and tracks it."

  use Phoenix.Channel

  @online_at 1_700_000_000

  @impl true
  def join(topic, %{"user" => user}, socket) do
    Reference.Channels.note(topic)
    send(self(), :after_join)
    {:ok, %{joined: topic}, assign(socket, :presence_key, user)}
  end

  @impl true
  def handle_in("update", meta, socket) do
    {:ok, _ref} = Reference.Presence.update(socket, socket.assigns.presence_key, meta)
    {:reply, :ok, socket}
  end

  def handle_in("untrack", _payload, socket) do
    :ok = Reference.Presence.untrack(socket, socket.assigns.presence_key)
    {:reply, :ok, socket}
  end

  @impl true
  def handle_info(:after_join, socket) do
    meta = %{online_at: @online_at}
    {:ok, _ref} = Reference.Presence.track(socket, socket.assigns.presence_key, meta)
    push(socket, "presence_state", Reference.Presence.list(socket))
    {:noreply, socket}
  end
end

defmodule Reference.UserSocket do
  @moduledoc "The socket of every mount; `token` says how `connect` ends, `user` gives the socket its id."

  use Phoenix.Socket

  channel "room:*", Reference.RoomChannel
  channel "exact", Reference.RoomChannel
  channel "presence:*", Reference.PresenceChannel

  @impl true
  def connect(%{"token" => "bad"}, _socket, _connect_info), do: :error
  def connect(%{"token" => "reason"}, _socket, _connect_info), do: {:error, :slow_down}
  def connect(%{"token" => "raise"}, _socket, _connect_info), do: raise("connect")

  def connect(params, socket, connect_info) do
    {:ok, assign(socket, connect_params: params, auth_token: connect_info[:auth_token])}
  end

  @impl true
  def id(%{assigns: %{connect_params: %{"user" => user}}}), do: "user:#{user}"
  def id(_socket), do: nil

  @doc "The `error_handler` of the mount `/err`."
  def handle_error(conn, :slow_down) do
    Plug.Conn.send_resp(conn, 429, Jason.encode!(%{reason: "slow down"}))
  end
end

defmodule Reference.Http do
  @moduledoc "The HTTP side: what no client can ask for over its own socket."

  use Plug.Router

  plug :match
  plug :fetch_query_params
  plug :dispatch

  get "/info" do
    versions = for app <- [:phoenix, :bandit, :elixir], into: %{}, do: {app, version(app)}

    conn
    |> put_resp_content_type("application/json")
    |> send_resp(200, Jason.encode!(Map.put(versions, :otp, System.otp_release())))
  end

  get "/disconnect/:id" do
    Reference.Endpoint.broadcast!(id, "disconnect", %{})
    text(conn, "disconnected #{id}")
  end

  get "/flood/:topic/:n/:size" do
    {microseconds, :ok} = :timer.tc(fn -> flood(topic, number(n), number(size), 0) end)
    text(conn, "flooded #{n} in #{microseconds} us")
  end

  get "/pace/:topic/:n/:size/:rate" do
    pause_ms = div(1_000, number(rate))
    {microseconds, :ok} = :timer.tc(fn -> flood(topic, number(n), number(size), pause_ms) end)
    text(conn, "paced #{n} in #{microseconds} us")
  end

  get "/broadcast/:topic/:event" do
    Reference.Endpoint.broadcast!(topic, event, conn.query_params)
    text(conn, "broadcast #{event} to #{topic}")
  end

  get "/kill_channels/:topic" do
    pids = Reference.Channels.of(topic)
    Enum.each(pids, &Process.exit(&1, :kill))
    text(conn, "killed #{length(pids)}")
  end

  get "/drain/:topic" do
    pids = Reference.Channels.of(topic)
    # What Phoenix.Socket.PoolDrainer sends to each channel when the application stops.
    Enum.each(pids, &send(&1, %Phoenix.Socket.Broadcast{event: "phx_drain"}))
    text(conn, "drained #{length(pids)}")
  end

  match _ do
    send_resp(conn, 404, "not found\n")
  end

  defp text(conn, text), do: send_resp(conn, 200, text <> "\n")
  defp number(text), do: String.to_integer(text)
  defp version(app), do: to_string(Application.spec(app, :vsn))

  defp flood(topic, n, size, pause_ms) do
    pad = String.duplicate("x", size)

    for i <- 0..(n - 1)//1 do
      payload = %{i: i, t: System.monotonic_time(:nanosecond), pad: pad}
      Reference.Endpoint.broadcast!(topic, "tick", payload)
      if pause_ms > 0, do: Process.sleep(pause_ms)
    end

    :ok
  end
end

defmodule Reference.Endpoint do
  @moduledoc "The mounts, which differ in their limits, and the HTTP side behind them."

  use Phoenix.Endpoint, otp_app: :reference

  # Phoenix 1.7 passes `auth_token` over: `connect_info` has no token then.
  socket "/socket", Reference.UserSocket,
    auth_token: true,
    websocket: [timeout: 60_000, max_frame_size: 8_000_000],
    longpoll: [window_ms: 2_000]

  socket "/default", Reference.UserSocket, websocket: true
  socket "/short", Reference.UserSocket, websocket: [timeout: 3_000]
  socket "/limit", Reference.UserSocket, websocket: [max_frame_size: 65_536, compress: true]

  socket "/origin", Reference.UserSocket,
    websocket: [
      check_origin: ["//good.example", "http://port.example:8080", "//*.wild.example"]
    ]

  socket "/err", Reference.UserSocket,
    websocket: [error_handler: {Reference.UserSocket, :handle_error, []}]

  plug Reference.Http
end

children = [
  {Phoenix.PubSub, name: Reference.PubSub},
  Reference.Channels,
  Reference.Presence,
  Reference.Endpoint
]

{:ok, _supervisor} = Supervisor.start_link(children, strategy: :one_for_one)

IO.puts("Phoenix #{Application.spec(:phoenix, :vsn)} listens on ws://127.0.0.1:#{port}/socket")
Process.sleep(:infinity)
