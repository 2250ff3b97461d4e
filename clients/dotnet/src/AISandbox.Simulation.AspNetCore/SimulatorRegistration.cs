namespace AISandbox.Simulation.AspNetCore;

/// <summary>The simulator that an application serves; one, because EnvironmentService names none.</summary>
internal sealed class SimulatorRegistration
{
    public Simulator? Simulator { get; set; }
}
