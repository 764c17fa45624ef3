"""`atv-local chat`: a conversation in which each turn is steered by a vector of its own."""

from __future__ import annotations

from dataclasses import replace

from atv_cli import options


def chat(
    model: options.Model = None,
    bundle: options.Bundle = None,
    max_tokens: options.MaxTokens = 256,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 0.95,
    top_k: options.TopK = 40,
    seed: options.Seed = None,
    system: options.System = None,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    strength: options.Strength = None,
    layers: options.Layers = None,
    positions: options.Positions = None,
    off: options.Off = False,
    control_vector: options.ControlVector = None,
    control_vector_scaled: options.ControlVectorScaled = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
) -> None:
    """Talk with the target; each turn is steered by its own task vector. /? lists the commands.

    From a pipe, each line is a turn; answers alone go to stdout.
    """
    options.check_off(off, control_vector, control_vector_scaled, provider, precision)
    changes = options.steering_changes(strength, layers, positions)

    import atv_local
    from atv_cli.chat import loop

    sampling = atv_local.Sampling(temperature, top_p, top_k, seed)
    engine = atv_local.load(
        model,
        bundle,
        steered=not off,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        control_vectors=options.control_vectors(control_vector, control_vector_scaled),
        provider=provider,
        precision=precision,
    )
    steering = atv_local.OFF if off else replace(engine.steering, **changes)
    loop.chat(
        atv_local.Conversation(engine, system=system, steering=steering, sampling=sampling, max_tokens=max_tokens)
    )
